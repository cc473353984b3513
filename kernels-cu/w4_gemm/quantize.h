// Round-to-nearest 4-bit quantisation of a linear layer's weight, as tarpon_w4_quantize() documents
// it and as the original MARLIN packer does it. Plain host C++, header-only, no allocation.
//
// Everything is exact integer or correctly rounded float arithmetic, so the result is the same for
// every compiler and instruction set (the file must not be compiled with -ffast-math).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace tarpon::w4_gemm {

enum class WeightDtype { kF32, kF16, kBF16 };

enum class QuantizeFault { kNone, kWeightNotFinite, kScaleOverflow };

// Where quantisation failed: weight[n][k], or the group of column n that begins at row k.
struct QuantizeResult {
    QuantizeFault fault = QuantizeFault::kNone;
    int64_t n = 0, k = 0;
    float value = 0;  // the weight, or the group's largest magnitude
};

namespace detail {

inline constexpr uint32_t kAbsMask = 0x7fffffff;
inline constexpr uint32_t kInfBits = 0x7f800000;

// Branch-free conversions, so that the loops over them vectorise on baseline x86-64. Weights need
// not be aligned: a tensor in a mapped file may not be.
inline float load_weight(const float *p) {
    float value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

struct F16Bits {
    uint16_t bits;
};
inline float load_weight(const F16Bits *p) {
    F16Bits half;
    std::memcpy(&half, p, sizeof half);
    const uint32_t magnitude = half.bits & 0x7fffu;
    // Moves the exponent field in place and rebiases it by multiplying with 2^(127-15): exact for
    // subnormals too. Infinities and NaNs get the exponent that marks them.
    const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    const uint32_t special = magnitude >= 0x7c00u ? kInfBits : 0u;
    const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | special | sign);
}

struct BF16Bits {
    uint16_t bits;
};
inline float load_weight(const BF16Bits *p) {
    BF16Bits value;
    std::memcpy(&value, p, sizeof value);
    return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Rounds a finite non-negative double to binary16 bits, to nearest even; 0x7c00 if it overflows.
inline uint16_t half_bits_from_positive(double value) {
    if (value < 0x1p-14) {  // subnormal (or the smallest normal, which has the next bit pattern)
        return static_cast<uint16_t>(std::nearbyint(value * 0x1p24));
    }
    uint64_t bits = std::bit_cast<uint64_t>(value);
    bits += (uint64_t{1} << 41) - 1 + (bits >> 42 & 1);
    const uint64_t half = (bits >> 42) - (uint64_t{1023 - 15} << 10);
    return half >= 0x7c00 ? uint16_t{0x7c00} : static_cast<uint16_t>(half);
}

// Rounds to 11 significant bits, to nearest even: binary16 without its exponent range. Quotients
// below that range are far below 1/2 and round to 0 in any case.
inline float round_to_half_precision(float value) {
    uint32_t bits = std::bit_cast<uint32_t>(value);
    bits += 0xfffu + (bits >> 13 & 1u);
    return std::bit_cast<float>(bits & ~0x1fffu);
}

// The code of one weight; scale > 0.
template <bool kHalfQuotient>
inline uint8_t quantize_one(float weight, float scale) {
    float q = weight / scale;
    if constexpr (kHalfQuotient) q = round_to_half_precision(q);
    q = q < -8.0f ? -8.0f : q;
    q = q > 7.0f ? 7.0f : q;
    // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low mantissa bits;
    // +8 is the bias of the codes, and even, so that ties stay ties to even.
    return static_cast<uint8_t>(std::bit_cast<uint32_t>(q + (0x1.8p23f + 8.0f)) & 15u);
}

template <class T>
QuantizeResult quantize_rtn(const T *weight, int64_t n, int64_t k, int64_t group_size,
                            uint8_t *codes, uint16_t *scales) {
    constexpr bool kHalfQuotient = std::is_same_v<T, F16Bits>;
    constexpr int64_t kTile =
        64;  // columns and rows of a transposed tile: 4 KiB, one cache line a row
    uint8_t tile[kTile][kTile];  // [column][row]
    float tile_scale[kTile];
    for (int64_t n0 = 0; n0 < n; n0 += kTile) {
        const int64_t cols = n - n0 < kTile ? n - n0 : kTile;
        for (int64_t g = 0, g0 = 0; g0 < k; ++g, g0 += group_size) {
            const int64_t g1 = k - g0 < group_size ? k : g0 + group_size;
            for (int64_t c = 0; c < cols; ++c) {
                const T *column = weight + (n0 + c) * k;
                uint32_t max_bits = 0;  // magnitudes order as their bits do
                for (int64_t i = g0; i < g1; ++i) {
                    const uint32_t bits =
                        std::bit_cast<uint32_t>(load_weight(column + i)) & kAbsMask;
                    max_bits = bits > max_bits ? bits : max_bits;
                }
                const float max = std::bit_cast<float>(max_bits);
                if (max_bits >= kInfBits) {
                    int64_t i = g0;
                    while (std::isfinite(load_weight(column + i)))
                        ++i;
                    return {QuantizeFault::kWeightNotFinite, n0 + c, i, load_weight(column + i)};
                }
                // In double the quotient by 15 cannot fall on a binary16 tie by rounding.
                const F16Bits scale{half_bits_from_positive(max * 2.0 / 15.0)};
                if (scale.bits >= 0x7c00) return {QuantizeFault::kScaleOverflow, n0 + c, g0, max};
                scales[g * n + n0 + c] = scale.bits;
                // 0 only where every |w| rounds to code 8: any scale that is large enough does.
                tile_scale[c] = scale.bits == 0 ? 1.0f : load_weight(&scale);
            }
            for (int64_t k0 = g0; k0 < g1; k0 += kTile) {
                const int64_t rows = g1 - k0 < kTile ? g1 - k0 : kTile;
                for (int64_t c = 0; c < cols; ++c) {
                    const T *column = weight + (n0 + c) * k + k0;
                    for (int64_t r = 0; r < rows; ++r) {
                        tile[c][r] =
                            quantize_one<kHalfQuotient>(load_weight(column + r), tile_scale[c]);
                    }
                }
                for (int64_t r = 0; r < rows; ++r) {
                    uint8_t *row = codes + (k0 + r) * n + n0;
                    for (int64_t c = 0; c < cols; ++c)
                        row[c] = tile[c][r];
                }
            }
        }
    }
    return {};
}

}  // namespace detail

// weight [N, K]; codes uint8 [K, N]; scales binary16 [ceil(K / group_size), N]; group_size >= 1 (K
// for per-channel). On a fault the outputs are unspecified.
inline QuantizeResult quantize_rtn(const void *weight, WeightDtype dtype, int64_t n, int64_t k,
                                   int64_t group_size, uint8_t *codes, uint16_t *scales) {
    switch (dtype) {
        case WeightDtype::kF32:
            return detail::quantize_rtn(static_cast<const float *>(weight), n, k, group_size, codes,
                                        scales);
        case WeightDtype::kF16:
            return detail::quantize_rtn(static_cast<const detail::F16Bits *>(weight), n, k,
                                        group_size, codes, scales);
        case WeightDtype::kBF16:
            break;
    }
    return detail::quantize_rtn(static_cast<const detail::BF16Bits *>(weight), n, k, group_size,
                                codes, scales);
}

}  // namespace tarpon::w4_gemm
