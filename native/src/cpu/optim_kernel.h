// The interface between the optimizers' plan (optim_plan.cc) and their kernels, which are compiled
// once per instruction set (optim_scalar.cc, optim_avx2.cc, optim_avx512.cc) from one body
// (optim_block.inl.h). All instruction sets compute the same bits.
#pragma once

#include <cstdint>

#include "optim/config.h"
#include "optim/maps.h"

namespace tarpon::cpu {

struct GradSum {
    double squares;  // of the gradient times the multiplier
    bool finite;     // every product is below optim::kGradientLimit
};

struct BlockwiseJob {
    const optim::CodeMap *map;
    void *values;  // read by quantize, written by dequantize
    optim::Dtype dtype;
    int64_t elems;
    int64_t block_elems;  // 64 .. 4096, a multiple of 64
    uint8_t *codes;
    float *absmax;
};

// Everything works on blocks [first, last): of 256 elements, or of the job's size. n is what is
// left of the last block of a tensor.
struct OptimKernel {
    // Returns how many blocks were left alone because a gradient was not finite.
    using Step = int64_t (*)(const optim::TensorEntry &tensor, const optim::Coefficients &c,
                             const optim::Rounding &rounding, int64_t first, int64_t last) noexcept;
    Step step[optim::kUpdates];
    GradSum (*grad_sum)(const optim::TensorEntry &tensor, float multiplier, int64_t first,
                        int64_t last) noexcept;
    double (*weight_squares)(const optim::TensorEntry &tensor, int64_t first,
                             int64_t last) noexcept;
    // Lamb: of the direction r. c.step_size is 1.
    double (*direction_squares)(const optim::TensorEntry &tensor, const optim::Coefficients &c,
                                int64_t first, int64_t last) noexcept;
    void (*quantize)(const BlockwiseJob &job, int64_t first, int64_t last) noexcept;
    void (*dequantize)(const BlockwiseJob &job, int64_t first, int64_t last) noexcept;
};

const OptimKernel &scalar_optim_kernel();
const OptimKernel &avx2_optim_kernel();    // needs Isa::kAvx2
const OptimKernel &avx512_optim_kernel();  // needs avx512_optim_supported()

// AVX-512 F/BW/DQ/VL and VBMI: Ice Lake, Zen 4 and newer.
bool avx512_optim_supported();

}  // namespace tarpon::cpu
