// The linear family on the host: validates descriptors and weights, and calls the packers of
// kernels-cu/w4_gemm. Cold code: it throws tarpon::Error, which abi.cc turns into a status.
#include "linear.h"

#include <vector>

#include "registry.h"
#include "types.h"
#include "w4_gemm/pack.h"
#include "w4_gemm/quantize.h"

namespace tarpon {
namespace {

using ll = long long;

// 2^40 codes are a terabyte: anything larger is a wrong size, and all products below fit int64.
constexpr int64_t kMaxWeightElems = int64_t{1} << 40;

struct Shape {
    int64_t n, k;
    int64_t group_size;  // K for per-channel scales
    int64_t groups;
};

Shape checked_shape(int64_t n, int64_t k, int32_t group_size) {
    if (n < 1 || k < 1) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "out_features is %lld and in_features is %lld; both "
             "must be >= 1",
             ll{n}, ll{k});
    }
    if (n > kMaxWeightElems / k) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "out_features %lld times in_features %lld is over the limit of 2^40 weights", ll{n},
             ll{k});
    }
    if (group_size != -1 && group_size != 32 && group_size != 64 && group_size != 128) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "group_size is %d; supported are 32, 64, 128 and -1 (one group over all input rows)",
             group_size);
    }
    if (group_size == -1) return {n, k, k, 1};
    return {n, k, group_size, (k + group_size - 1) / group_size};
}

void check_codes(const uint8_t *codes, const Shape &shape) {
    int64_t i = w4_gemm::find_invalid_code(codes, shape.n * shape.k);
    if (i < 0) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "codes[%lld, %lld] is %d; a 4-bit code is 0..15",
         ll{i / shape.n}, ll{i % shape.n}, codes[i]);
}

void check_scales(const uint16_t *scales, const Shape &shape) {
    for (int64_t i = 0; i < shape.groups * shape.n; ++i) {
        if ((scales[i] & 0x7c00) == 0x7c00) {
            fail(TARPON_ERROR_INVALID_ARGUMENT, "scales[%lld, %lld] is not finite (bits 0x%04x)",
                 ll{i / shape.n}, ll{i % shape.n}, scales[i]);
        }
    }
}

void check_size(const char *what, size_t given, size_t expected, const char *layout,
                const Shape &shape) {
    if (given == expected) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "weights->%s is %zu; %s order with in_features %lld, out_features %lld and %lld scale "
         "group(s) takes %zu",
         what, given, layout, ll{shape.k}, ll{shape.n}, ll{shape.groups}, expected);
}

w4_gemm::WeightDtype checked_weight_dtype(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return w4_gemm::WeightDtype::kF32;
        case TARPON_F16:
            return w4_gemm::WeightDtype::kF16;
        case TARPON_BF16:
            return w4_gemm::WeightDtype::kBF16;
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "weight_dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)", dtype,
         dtype_name(dtype));
}

// Refuses what no descriptor may hold; what no kernel serves is the registry's to say.
void check_enum(const char *name, int32_t value, int32_t last, const char *values) {
    if (value >= 0 && value <= last) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->%s is %d; it must be %s", name, value, values);
}

LinearProblem checked_problem(const tarpon_linear_desc &desc, const Shape &shape) {
    check_enum("weight_type", desc.weight_type, TARPON_WEIGHT_FP8_E4M3,
               "TARPON_WEIGHT_INT4 (0), _INT8 (1) or _FP8_E4M3 (2)");
    check_enum("zero_type", desc.zero_type, TARPON_ZERO_FLOAT,
               "TARPON_ZERO_SYMMETRIC (0), _INTEGER (1) or _FLOAT (2)");
    check_enum("scale_type", desc.scale_type, TARPON_SCALE_F32,
               "TARPON_SCALE_F16 (0), _BF16 (1) or _F32 (2)");
    check_enum("sparsity", desc.sparsity, TARPON_SPARSITY_2_4,
               "TARPON_SPARSITY_NONE (0) or _2_4 (1)");
    check_enum("mode", desc.mode, TARPON_LINEAR_DETERMINISTIC,
               "TARPON_LINEAR_FAST (0) or _DETERMINISTIC (1)");
    check_enum("arithmetic", desc.arithmetic, TARPON_ARITHMETIC_INT8_ACTIVATIONS,
               "TARPON_ARITHMETIC_EXACT (0) or _INT8_ACTIVATIONS (1)");
    if (desc.activation_dtype < TARPON_F32 || desc.activation_dtype > TARPON_BF16) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->activation_dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)",
             desc.activation_dtype, dtype_name(desc.activation_dtype));
    }
    if (desc.reserved != 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->reserved is %d; it must be 0", desc.reserved);
    }
    LinearProblem problem{};
    problem.n = shape.n;
    problem.k = shape.k;
    problem.group_size = shape.group_size;
    problem.groups = shape.groups;
    problem.weight_type = desc.weight_type;
    problem.activation_dtype = desc.activation_dtype;
    problem.arithmetic = desc.arithmetic;
    problem.zero_type = desc.zero_type;
    problem.scale_type = desc.scale_type;
    problem.sparsity = desc.sparsity;
    problem.mode = desc.mode;
    return problem;
}

}  // namespace

std::unique_ptr<LinearPlan> create_linear(Device &device, const tarpon_linear_desc &desc,
                                          const tarpon_linear_weights &weights,
                                          const char **out_variant) {
    Shape shape = checked_shape(desc.out_features, desc.in_features, desc.group_size);
    LinearProblem problem = checked_problem(desc, shape);
    problem.has_bias = weights.bias != nullptr;
    problem.permuted = weights.g_idx != nullptr;
    const LinearVariant &variant = choose_linear_variant(device, problem, desc.variant);
    if (!weights.qweight || !weights.scales) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "weights->qweight is %p and weights->scales is %p; "
             "neither may be NULL",
             weights.qweight, weights.scales);
    }
    const size_t code_count = static_cast<size_t>(shape.n * shape.k);
    const size_t scale_count = static_cast<size_t>(shape.groups * shape.n);
    *out_variant = variant.name;
    switch (weights.layout) {
        case TARPON_LAYOUT_PLAIN: {
            check_size("qweight_bytes", weights.qweight_bytes, code_count, "plain", shape);
            check_size("scales_bytes", weights.scales_bytes, 2 * scale_count, "plain", shape);
            auto codes = static_cast<const uint8_t *>(weights.qweight);
            auto scales = static_cast<const uint16_t *>(weights.scales);
            check_codes(codes, shape);
            check_scales(scales, shape);
            return variant.create(device, problem, {codes, scales});
        }
        case TARPON_LAYOUT_MARLIN: {
            auto size = w4_gemm::marlin_size(shape.n, shape.k, shape.groups);
            check_size("qweight_bytes", weights.qweight_bytes, 4 * size.qweight_words, "MARLIN",
                       shape);
            check_size("scales_bytes", weights.scales_bytes, 2 * size.scales_elems, "MARLIN",
                       shape);
            std::vector<uint8_t> codes(code_count);
            std::vector<uint16_t> scales(scale_count);
            w4_gemm::marlin_unpack(static_cast<const int32_t *>(weights.qweight),
                                   static_cast<const uint16_t *>(weights.scales), shape.n, shape.k,
                                   shape.groups, codes.data(), scales.data());
            check_scales(scales.data(), shape);
            return variant.create(device, problem, {codes.data(), scales.data()});
        }
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "weights->layout is %d; it must be TARPON_LAYOUT_PLAIN (0) or TARPON_LAYOUT_MARLIN (1)",
         weights.layout);
}

void w4_quantize(const void *weight, tarpon_dtype dtype, int64_t n, int64_t k, int32_t group_size,
                 uint8_t *out_codes, uint16_t *out_scales) {
    Shape shape = checked_shape(n, k, group_size);
    auto result = w4_gemm::quantize_rtn(weight, checked_weight_dtype(dtype), n, k, shape.group_size,
                                        out_codes, out_scales);
    if (result.fault == w4_gemm::QuantizeFault::kNone) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "weight[%lld, %lld] is %g, which %s", ll{result.n},
         ll{result.k}, static_cast<double>(result.value),
         result.fault == w4_gemm::QuantizeFault::kScaleOverflow
             ? "needs a scale beyond binary16's 65504; scale the layer down"
             : "is not finite");
}

void w4_dequantize(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                   int32_t group_size, float *out_weight) {
    Shape shape = checked_shape(n, k, group_size);
    check_codes(codes, shape);
    for (int64_t row = 0; row < k; ++row) {
        const uint16_t *row_scales = scales + row / shape.group_size * n;
        for (int64_t column = 0; column < n; ++column) {
            int code = codes[row * n + column];
            out_weight[row * n + column] =
                static_cast<float>(code - 8) * to_float(half_t{row_scales[column]});
        }
    }
}

void marlin_size_bytes(int64_t n, int64_t k, int32_t group_size, size_t *out_qweight_bytes,
                       size_t *out_scales_bytes) {
    Shape shape = checked_shape(n, k, group_size);
    auto size = w4_gemm::marlin_size(n, k, shape.groups);
    *out_qweight_bytes = 4 * size.qweight_words;
    *out_scales_bytes = 2 * size.scales_elems;
}

void marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                 int32_t group_size, int32_t *out_qweight, uint16_t *out_scales_packed) {
    Shape shape = checked_shape(n, k, group_size);
    check_codes(codes, shape);
    w4_gemm::marlin_pack(codes, scales, n, k, shape.groups, out_qweight, out_scales_packed);
}

void marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n, int64_t k,
                   int32_t group_size, uint8_t *out_codes, uint16_t *out_scales) {
    Shape shape = checked_shape(n, k, group_size);
    w4_gemm::marlin_unpack(qweight, scales_packed, n, k, shape.groups, out_codes, out_scales);
}

}  // namespace tarpon
