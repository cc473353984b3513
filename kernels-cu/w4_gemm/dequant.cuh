// Codes to multiplicands, in registers, in the order of the tensor core's fragments.
//
// Every format gives numbers that half_t and bf16_t represent exactly: code - 8, code - zero,
// code - 128, or an e4m3 number. Scales are applied to fp32 sums afterwards, so that dequantisation
// adds no rounding of its own.
#pragma once

#include "common/ptx.cuh"
#include "w4_gemm/format.h"

namespace tarpon::w4_gemm {

// One lane's words of a 16x16 tile to the fragment registers w[2 * n_half + k_half]: the B fragments
// {w[0], w[1]} and {w[2], w[3]} of its two 8-column halves (see marlin_tile_coord in pack.h).
// Zeros: what zero points of the two columns become once for all rows of a slab.
template <class Format, class T>
struct Dequant;

struct NoZeros {};

// (a & mask) | bits, one instruction.
TARPON_DEVICE uint32_t masked_or(uint32_t a, uint32_t mask, uint32_t bits) {
    return ptx::lop3<(0xf0 & 0xcc) | 0xaa>(a, mask, bits);
}

// ---- Four bits ----------------------------------------------------------------------------------

// A nibble q placed at the bottom of 1024's mantissa reads 1024 + q; four bits higher, 1024 + 16 q.
template <>
struct Dequant<Int4Symmetric, half_t> {
    using Zeros = NoZeros;
    static TARPON_DEVICE void run(const uint32_t (&words)[1], Zeros, uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, kHigh = 0x00f000f0;
        constexpr uint32_t k1024 = 0x64006400, k1032 = 0x64086408;
        constexpr uint32_t kSixteenth = 0x2c002c00, kMinus72 = 0xd480d480;
        const uint32_t lower = words[0], upper = words[0] >> 8;
        w[0] = ptx::sub2<half_t>(masked_or(lower, kLow, k1024), k1032);
        w[1] = ptx::fma2<half_t>(masked_or(lower, kHigh, k1024), kSixteenth, kMinus72);
        w[2] = ptx::sub2<half_t>(masked_or(upper, kLow, k1024), k1032);
        w[3] = ptx::fma2<half_t>(masked_or(upper, kHigh, k1024), kSixteenth, kMinus72);
    }
};

// bfloat16 has 7 mantissa bits: 128 + q fits, 128 + 16 q does not, so every nibble is shifted down.
template <>
struct Dequant<Int4Symmetric, bf16_t> {
    using Zeros = NoZeros;
    static TARPON_DEVICE void run(const uint32_t (&words)[1], Zeros, uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, k128 = 0x43004300, k136 = 0x43084308;
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            w[i] = ptx::sub2<bf16_t>(masked_or(words[0] >> (4 * i), kLow, k128), k136);
        }
    }
};

template <class T>
struct Dequant<Int4Float, T> : Dequant<Int4Symmetric, T> {};

// The byte permute that takes byte `index` of its first operand twice, each below the second
// operand's lowest byte: {high, byte, high, byte}.
TARPON_DEVICE uint32_t twice_below(uint32_t bytes, int index, uint32_t high) {
    return ptx::prmt(bytes, high, 0x4040u | uint32_t(index) << 8 | uint32_t(index));
}

// A zero point z costs what the constant 8 costs: 1024 + z is subtracted from 1024 + q, and 64 + z
// from (1024 + 16 q) / 16. Both are z, or 16 z, below a constant byte.
template <>
struct Dequant<Int4Integer, half_t> {
    struct Zeros {
        uint32_t low[2], minus_high[2];  // of the tile's two columns
    };
    // `bytes` has the zero points of two tiles; `tile` is 0 or 1.
    static TARPON_DEVICE Zeros zeros(uint32_t bytes, int tile) {
        Zeros out;
        TARPON_UNROLL
        for (int half = 0; half < 2; ++half) {
            const int index = 2 * tile + half;
            out.low[half] = twice_below(bytes, index, 0x64);
            out.minus_high[half] = twice_below(bytes << 4, index, 0xd4);
        }
        return out;
    }
    static TARPON_DEVICE void run(const uint32_t (&words)[1], const Zeros &zeros,
                                  uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, kHigh = 0x00f000f0;
        constexpr uint32_t k1024 = 0x64006400, kSixteenth = 0x2c002c00;
        TARPON_UNROLL
        for (int half = 0; half < 2; ++half) {
            const uint32_t word = words[0] >> (8 * half);
            w[2 * half] = ptx::sub2<half_t>(masked_or(word, kLow, k1024), zeros.low[half]);
            w[2 * half + 1] = ptx::fma2<half_t>(masked_or(word, kHigh, k1024), kSixteenth,
                                                zeros.minus_high[half]);
        }
    }
};

template <>
struct Dequant<Int4Integer, bf16_t> {
    struct Zeros {
        uint32_t v[2];  // 128 + z
    };
    static TARPON_DEVICE Zeros zeros(uint32_t bytes, int tile) {
        return {{twice_below(bytes, 2 * tile, 0x43), twice_below(bytes, 2 * tile + 1, 0x43)}};
    }
    static TARPON_DEVICE void run(const uint32_t (&words)[1], const Zeros &zeros,
                                  uint32_t (&w)[4]) {
        constexpr uint32_t kLow = 0x000f000f, k128 = 0x43004300;
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            w[i] = ptx::sub2<bf16_t>(masked_or(words[0] >> (4 * i), kLow, k128), zeros.v[i / 2]);
        }
    }
};

// ---- Eight bits ---------------------------------------------------------------------------------
// Word i has the codes of w[2 * i] in bytes 0 and 2, those of w[2 * i + 1] in bytes 1 and 3.

// A byte below 0x64 reads 1024 + code.
template <>
struct Dequant<Int8Symmetric, half_t> {
    using Zeros = NoZeros;
    static TARPON_DEVICE void run(const uint32_t (&words)[2], Zeros, uint32_t (&w)[4]) {
        constexpr uint32_t k0x64 = 0x64, k1152 = 0x64806480;
        TARPON_UNROLL
        for (int i = 0; i < 2; ++i) {
            w[2 * i] = ptx::sub2<half_t>(ptx::prmt(words[i], k0x64, 0x4240), k1152);
            w[2 * i + 1] = ptx::sub2<half_t>(ptx::prmt(words[i], k0x64, 0x4341), k1152);
        }
    }
};

// bfloat16 holds 128 + the low seven bits; the eighth says whether 128 or 256 is to be subtracted,
// which differ in one bit, too: 0x4300 and 0x4380.
template <>
struct Dequant<Int8Symmetric, bf16_t> {
    using Zeros = NoZeros;
    static TARPON_DEVICE void run(const uint32_t (&words)[2], Zeros, uint32_t (&w)[4]) {
        constexpr uint32_t kSeven = 0x007f007f, kEighth = 0x00800080;
        constexpr uint32_t k128 = 0x43004300, k256 = 0x43804380;
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            const uint32_t word = words[i / 2] >> (8 * (i % 2));
            const uint32_t center = ptx::lop3<(0xf0 & 0xcc) ^ 0xaa>(word, kEighth, k256);
            w[i] = ptx::sub2<bf16_t>(masked_or(word, kSeven, k128), center);
        }
    }
};

template <class T>
struct Dequant<Int8Float, T> : Dequant<Int8Symmetric, T> {};

// e4m3 has sign, four bits of exponent with bias 7 and three of mantissa. Moved below the sign of T
// and to the top of its mantissa, they read the number times 2^(7 - bias of T), subnormals too; a
// product with a power of two, which is exact, makes it the number.
template <class T>
struct Dequant<Fp8E4m3, T> {
    using Zeros = NoZeros;
    static TARPON_DEVICE void run(const uint32_t (&words)[2], Zeros, uint32_t (&w)[4]) {
        constexpr bool kHalf = std::is_same_v<T, half_t>;
        constexpr uint32_t kSign = 0x80008000;
        constexpr int kShift = kHalf ? 1 : 4;  // bits of T's exponent beyond four
        constexpr uint32_t kRest = kHalf ? 0x3f803f80 : 0x07f007f0;
        constexpr uint32_t kFactor = kHalf ? 0x5c005c00 : 0x7b807b80;  // 2^8, 2^120
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            const uint32_t word = i % 2 ? words[i / 2] : words[i / 2] << 8;
            const uint32_t bits = masked_or(word, kSign, (word >> kShift) & kRest);
            w[i] = ptx::mul2<T>(bits, kFactor);
        }
    }
};

// The kept codes are codes like others.
template <class T>
struct Dequant<Int4Sparse, T> : Dequant<Int4Symmetric, T> {};

}  // namespace tarpon::w4_gemm
