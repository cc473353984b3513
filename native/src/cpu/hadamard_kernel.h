// The contract between the CPU's Hadamard transform (hadamard.cc) and its kernels, one file an
// instruction set. Included by files compiled with wide instruction sets: nothing here compiles to
// code, or the linker might keep a wide copy for everybody.
#pragma once

#include <cstdint>

namespace tarpon::cpu {

// Consecutive rows of one call. y is x, or apart from it.
struct HadamardRows {
    const void *x;  // [rows, base * power]
    void *y;        // likewise
    int64_t rows;
    int64_t power;           // a power of two
    int base;                // 1, 12, 20 or 28
    const uint32_t *matrix;  // rows of the base matrix (hadamard/matrix.h); null for base 1
    float scale;             // 1/sqrt(base * power)
};

using HadamardKernel = void (*)(const HadamardRows &rows) noexcept;

// Kernels of an instruction set, by dtype: F32, F16, BF16.
struct HadamardKernels {
    HadamardKernel by_dtype[3];
};
extern const HadamardKernels kScalarHadamard, kAvx2Hadamard, kAvx512Hadamard;

}  // namespace tarpon::cpu
