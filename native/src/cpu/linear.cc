// The CPU's variants of the linear layer.
#include "cpu/linear.h"

#include "cpu/device.h"
#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

using FindKernel = const LinearKernel *(*)(tarpon_weight_type, tarpon_dtype);

// Scales change between steps only, which are units of 8 inputs and at least 32 of them.
bool group_fits_steps(const LinearProblem &problem) {
    return problem.groups == 1 || problem.group_size == 32 || problem.group_size == 64 ||
           problem.group_size % kStepRows == 0;
}

// Every kernel serves all zero and scale types, biases and permutations; sparse weights count as
// dense; and each sums a row in one order, so that the deterministic mode asks for nothing.
template <Isa kIsa, tarpon_linear_arithmetic kArithmetic, FindKernel kFind>
LinearVariant variant(const char *name, const char *needs) {
    return {name, needs,
            [](const Device &device, const LinearProblem &problem) {
                return static_cast<const CpuDevice &>(device).isa() >= kIsa &&
                       problem.arithmetic == kArithmetic && group_fits_steps(problem) &&
                       kFind(problem.weight_type, problem.activation_dtype) != nullptr;
            },
            [](Device &device, const LinearProblem &problem,
               const LinearWeights &weights) -> std::unique_ptr<LinearPlan> {
                return make_linear_plan(static_cast<CpuDevice &>(device).pool(),
                                        *kFind(problem.weight_type, problem.activation_dtype),
                                        problem, weights);
            }};
}

}  // namespace

const std::vector<LinearVariant> &linear_variants() {
    constexpr auto kExact = TARPON_ARITHMETIC_EXACT;
    constexpr auto kInt8 = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    static const std::vector<LinearVariant> variants = {
        variant<Isa::kAmx, kExact, amx_linear_kernel>(
            "cpu_amx",
            "AMX_TILE, AMX_BF16 and AMX_INT8; int4, int8 or e4m3, F16 or BF16, group 32, 64, "
            "128*i or -1"),
        variant<Isa::kAvx512Bf16, kExact, avx512_bf16_linear_kernel>(
            "cpu_avx512_bf16",
            "AVX-512 F/BW/DQ/VL and AVX512_BF16; int4, int8 or e4m3, F16 or BF16, group 32, 64, "
            "128*i or -1"),
        variant<Isa::kAvx512, kExact, avx512_linear_kernel>(
            "cpu_avx512",
            "AVX-512 F/BW/DQ/VL; int4, int8 or e4m3, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx2, kExact, avx2_linear_kernel>(
            "cpu_avx2",
            "AVX2, FMA, F16C; int4, int8 or e4m3, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kScalar, kExact, scalar_linear_kernel>(
            "cpu_scalar",
            "any x86-64; int4, int8 or e4m3, F32, F16 or BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAmx, kInt8, amx_int8_linear_kernel>(
            "cpu_amx_int8",
            "AMX_TILE, AMX_BF16 and AMX_INT8; int4 or int8 with int8 activations, F32, F16 or "
            "BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx512Vnni, kInt8, avx512_vnni_int8_linear_kernel>(
            "cpu_avx512_vnni_int8",
            "AVX-512 F/BW/DQ/VL and AVX512_VNNI; int4 or int8 with int8 activations, F32, F16 or "
            "BF16, group 32, 64, 128*i or -1"),
        variant<Isa::kAvx2, kInt8, avx2_int8_linear_kernel>(
            "cpu_avx2_int8",
            "AVX2, FMA, F16C; int4 or int8 with int8 activations, F32, F16 or BF16, group 32, 64, "
            "128*i or -1"),
        variant<Isa::kScalar, kInt8, scalar_int8_linear_kernel>(
            "cpu_scalar_int8",
            "any x86-64; int4 or int8 with int8 activations, F32, F16 or BF16, group 32, 64, "
            "128*i or -1"),
    };
    return variants;
}

}  // namespace tarpon::cpu
