// Codes to multiplicands, in registers, in the order of the tensor core's fragments.
//
// Every format gives small integers that half_t and bf16_t represent exactly; scales are applied to
// fp32 sums afterwards, so that dequantisation adds no rounding of its own.
#pragma once

#include "common/ptx.cuh"
#include "w4_gemm/config.h"

namespace tarpon::w4_gemm {

// One lane's word of a 16x16 tile to the fragment registers w[2 * n_half + k_half]: the B fragments
// {w[0], w[1]} and {w[2], w[3]} of its two 8-column halves (see marlin_tile_coord in pack.h).
template <class Format, class T>
struct Dequant;

// (a & mask) | bits, one instruction.
TARPON_DEVICE uint32_t masked_or(uint32_t a, uint32_t mask, uint32_t bits) {
    return ptx::lop3<(0xf0 & 0xcc) | 0xaa>(a, mask, bits);
}

// A nibble q placed at the bottom of 1024's mantissa reads 1024 + q; four bits higher, 1024 + 16 q.
template <>
struct Dequant<Int4Symmetric, half_t> {
    static TARPON_DEVICE void run(uint32_t word, uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, kHigh = 0x00f000f0;
        constexpr uint32_t k1024 = 0x64006400, k1032 = 0x64086408;
        constexpr uint32_t kSixteenth = 0x2c002c00, kMinus72 = 0xd480d480;
        const uint32_t upper = word >> 8;
        w[0] = ptx::sub2<half_t>(masked_or(word, kLow, k1024), k1032);
        w[1] = ptx::fma2<half_t>(masked_or(word, kHigh, k1024), kSixteenth, kMinus72);
        w[2] = ptx::sub2<half_t>(masked_or(upper, kLow, k1024), k1032);
        w[3] = ptx::fma2<half_t>(masked_or(upper, kHigh, k1024), kSixteenth, kMinus72);
    }
};

// bfloat16 has 7 mantissa bits: 128 + q fits, 128 + 16 q does not, so every nibble is shifted down.
template <>
struct Dequant<Int4Symmetric, bf16_t> {
    static TARPON_DEVICE void run(uint32_t word, uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, k128 = 0x43004300, k136 = 0x43084308;
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            w[i] = ptx::sub2<bf16_t>(masked_or(word >> (4 * i), kLow, k128), k136);
        }
    }
};

}  // namespace tarpon::w4_gemm
