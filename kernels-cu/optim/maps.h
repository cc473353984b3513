// Code maps of block-wise quantisation: what a code stands for, and the nearest code of a value.
//
// A block of values is stored as codes and one absmax: value = map.value[code] * absmax. Encoding
// takes x * (1 / absmax), in [-1, 1]. The same functions run on the CPU's scalar path, on GPUs and
// on the simulator; the vector paths (native/src/cpu/optim_codes.inl.h, optim_vector_*.h) compute
// the same bits.
//
// The nearest value is decided by binary32 midpoints, m[i] = fl((value[i] + value[i+1]) / 2): the
// code is the number of midpoints below x, so that an x on a midpoint takes the lower code. For
// every x that is not itself a rounded midpoint this is the exact nearest value.
//
// The dynamic map needs no search. Its magnitudes are evenly spaced inside each decade, so that
// the index is linear in x there: floor(x * scale + offset), within one of the right index, and one
// comparison with a midpoint decides. The piece of the map that x falls in (a decade, the values
// below all decades, or 1.0) follows from x's exponent and one comparison, because a binade holds
// at most one border between pieces.
//
// Sources: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", section 2.2 (dynamic
// tree quantisation); Dettmers et al., "QLoRA", appendix E (NF4); OCP "FP8 Formats" (E4M3).
#pragma once

#include <bit>
#include <cstdint>

#include "common/types.h"
#include "optim/lanes.h"

namespace tarpon::optim {

enum class MapKind : int32_t {
    kDynamicSigned,    // 256 values, code 127 is 0
    kDynamicUnsigned,  // 256 values, code 0 is 0; negative values become 0
    kLinear,           // int8 two's complement -127..127, value = code / 127
    kFp8E4M3,          // value = e4m3 / 448
    kDynamic4,         // 16 values, code 7 is 0; two codes a byte, the first in the high half
    kNormalFloat4,     // the 16 values of NF4, code 7 is 0; packed likewise
};
inline constexpr int kMapKinds = 6;

TARPON_HOST_DEVICE constexpr bool is_four_bit(MapKind kind) {
    return kind == MapKind::kDynamic4 || kind == MapKind::kNormalFloat4;
}

inline constexpr int kMaxPieces = 16;
inline constexpr int kBinades = 32;
// Magnitudes are clamped here before their exponent is looked up: far below every map's smallest
// border, and such that exponent % kBinades tells all binades up to 1.0 apart.
inline constexpr uint32_t kSmallestKey = (127u - 31u) << 23;
inline constexpr uint32_t kOneKey = 127u << 23;
// The linear guess is lowered by this much, far more than its rounding errors and far less than a
// bin, so that it is never above the right index: only a guess whose fraction exceeds
// 1 - 2 * kGuessSlack can be one below.
inline constexpr float kGuessSlack = 0x1p-12f;

// A map with the tables of its encoder. Plain data: kernels keep a copy in shared memory.
struct CodeMap {
    MapKind kind;
    int32_t zero_code;  // of the dynamic maps: the code of magnitude index 0
    int32_t is_signed;
    int32_t reserved;
    float value[256];
    // Dynamic maps: bits of the midpoint above magnitude index k. NF4: bits of the midpoint above
    // code k. Unused entries are above every key.
    uint32_t midpoint[256];
    // Dynamic maps: magnitude index = min(floor(x * scale + offset), last), piece by piece.
    float piece_scale[kMaxPieces];
    float piece_offset[kMaxPieces];
    float piece_last[kMaxPieces];
    // By exponent % kBinades: the piece at the lower end of the binade, and the largest key that
    // still belongs to it.
    uint32_t binade_limit[kBinades];
    int32_t binade_piece[kBinades];
};

namespace detail {

constexpr uint32_t kAboveEveryKey = 0x7fffffff;

constexpr float power_of_ten(int exponent) {
    double p = 1;
    for (int i = 0; i < -exponent; ++i)
        p *= 10;
    return static_cast<float>(1 / p);
}

// Boundary `i` of `bins` equal bins of [0.1, 1], in the arithmetic that the reference's maps have:
// fused in binary32 from the nearer end. The sums are exact in binary64.
constexpr float bin_boundary(int i, int bins) {
    const float step = (1.0f - 0.1f) / static_cast<float>(bins);
    return static_cast<float>(i < (bins + 1) / 2 ? double(step) * i + double(0.1f)
                                                 : 1.0 - double(step) * (bins - i));
}

// Dynamic map of `decades` decades; decade i has bins_of_first << i values.
constexpr CodeMap dynamic_map(MapKind kind, int decades, int bins_of_first, bool is_signed) {
    CodeMap map{};
    map.kind = kind;
    map.is_signed = is_signed;
    float magnitude[257] = {};  // ascending; index 0 is zero
    int first_of[kMaxPieces] = {};
    int count = 1;
    for (int i = 0; i < decades; ++i) {
        const int bins = bins_of_first << i;
        first_of[i] = count;
        for (int j = 0; j < bins; ++j) {
            const float mean = (bin_boundary(j, bins) + bin_boundary(j + 1, bins)) * 0.5f;
            magnitude[count++] = mean * power_of_ten(i - (decades - 1));
        }
    }
    magnitude[count] = 1.0f;  // index `count` is the last
    map.zero_code = is_signed ? count - 1 : 0;
    for (int k = 0; k <= count; ++k) {
        map.value[map.zero_code + k] = magnitude[k];
        if (is_signed && k < count) map.value[map.zero_code - k] = -magnitude[k];
    }
    for (int k = 0; k < 256; ++k) {
        map.midpoint[k] = k < count
                              ? std::bit_cast<uint32_t>((magnitude[k] + magnitude[k + 1]) * 0.5f)
                              : kAboveEveryKey;
    }
    // Pieces: 0 is zero alone, 1 + i is decade i, decades + 1 is 1.0 alone.
    for (int i = 0; i < decades; ++i) {
        const int bins = bins_of_first << i;
        const double unit = power_of_ten(i - (decades - 1));
        const double scale = bins / (0.9 * unit);
        map.piece_scale[1 + i] = static_cast<float>(scale);
        map.piece_offset[1 + i] =
            static_cast<float>(first_of[i] - 0.1 * unit * scale - double(kGuessSlack));
        map.piece_last[1 + i] = static_cast<float>(first_of[i] + bins - 1);
    }
    map.piece_offset[decades + 1] = map.piece_last[decades + 1] = static_cast<float>(count);
    int piece = 0;
    for (uint32_t exponent = 127 - 31; exponent <= 127; ++exponent) {
        const uint32_t last_key = (exponent << 23) | 0x7fffff;
        uint32_t limit = kAboveEveryKey;
        if (piece <= decades) {
            // The border above this piece: the midpoint below the first index of the next.
            const int next_first = piece < decades ? first_of[piece] : count;
            const uint32_t border = map.midpoint[next_first - 1];
            if (border <= last_key) limit = border;
        }
        map.binade_piece[exponent % kBinades] = piece;
        map.binade_limit[exponent % kBinades] = limit;
        piece += limit != kAboveEveryKey;
    }
    return map;
}

constexpr float e4m3_value(int code) {
    const int exponent = (code >> 3) & 15, mantissa = code & 7;
    float value = exponent == 0 ? static_cast<float>(mantissa) * 0x1p-9f
                                : static_cast<float>(8 + mantissa) * 0x1p-10f;
    for (int i = 0; i < exponent; ++i)
        value *= 2;
    return code & 0x80 ? -value : value;
}

constexpr CodeMap linear_map() {
    CodeMap map{};
    map.kind = MapKind::kLinear;
    map.is_signed = true;
    for (int code = -127; code <= 127; ++code)
        map.value[code & 255] = static_cast<float>(code) / 127.0f;
    map.value[128] = -1.0f;  // -128 is never written; it reads as -127
    return map;
}

constexpr CodeMap fp8_map() {
    CodeMap map{};
    map.kind = MapKind::kFp8E4M3;
    map.is_signed = true;
    for (int code = 0; code < 256; ++code) {
        const bool is_nan = (code & 127) == 127;
        map.value[code] = is_nan ? std::bit_cast<float>(0x7fc00000u) : e4m3_value(code) / 448.0f;
    }
    return map;
}

constexpr CodeMap normal_float4_map() {
    constexpr float kValues[16] = {
        -1.0f,
        -0.6961928009986877f,
        -0.5250730514526367f,
        -0.39491748809814453f,
        -0.28444138169288635f,
        -0.18477343022823334f,
        -0.09105003625154495f,
        0.0f,
        0.07958029955625534f,
        0.16093020141124725f,
        0.24611230194568634f,
        0.33791524171829224f,
        0.44070982933044434f,
        0.5626170039176941f,
        0.7229568362236023f,
        1.0f,
    };
    CodeMap map{};
    map.kind = MapKind::kNormalFloat4;
    map.zero_code = 7;
    map.is_signed = true;
    for (int code = 0; code < 16; ++code) {
        map.value[code] = kValues[code];
        map.midpoint[code] =
            code < 15 ? std::bit_cast<uint32_t>((kValues[code] + kValues[code + 1]) * 0.5f)
                      : kAboveEveryKey;
    }
    return map;
}

inline constexpr CodeMap kMaps[kMapKinds] = {
    dynamic_map(MapKind::kDynamicSigned, 7, 1, true),
    dynamic_map(MapKind::kDynamicUnsigned, 7, 2, false),
    linear_map(),
    fp8_map(),
    dynamic_map(MapKind::kDynamic4, 3, 1, true),
    normal_float4_map(),
};

}  // namespace detail

// The maps on the host; launchers copy them to the device.
inline const CodeMap &code_map(MapKind kind) {
    return detail::kMaps[static_cast<int>(kind)];
}

// What the quantiser multiplies a block with. 0 for a block of zeros; a block whose largest
// magnitude is subnormal (below 1.2e-38, where the reciprocal overflows) is stored as zeros.
TARPON_HOST_DEVICE float reciprocal_absmax(float absmax) {
    return absmax >= 0x1p-126f ? 1.0f / absmax : 0.0f;
}

namespace detail {

// Magnitude with the tie rule folded in: on a midpoint a negative x takes the larger magnitude
// (the lower code), so that its key counts as one more.
TARPON_HOST_DEVICE uint32_t magnitude_key(uint32_t bits) {
    const uint32_t key = (bits & 0x7fffffffu) + (bits >> 31);
    return key < kSmallestKey ? kSmallestKey : key > kOneKey ? kOneKey : key;
}

// The right one of the two indices that a lowered guess leaves.
TARPON_HOST_DEVICE int settle_index(const CodeMap &map, int guess, uint32_t key) {
    return guess + (key > map.midpoint[guess] ? 1 : 0);
}

TARPON_HOST_DEVICE int magnitude_index(const CodeMap &map, uint32_t key) {
    const int binade = int(key >> 23) % kBinades;
    const int piece = map.binade_piece[binade] + (key > map.binade_limit[binade] ? 1 : 0);
    const float x = lanes::as_float(key);
    const float linear = lanes::fma(x, map.piece_scale[piece], map.piece_offset[piece]);
    const float last = map.piece_last[piece];
    return settle_index(map, int(linear < last ? linear : last), key);
}

TARPON_HOST_DEVICE int dynamic_code(const CodeMap &map, uint32_t bits) {
    if (!map.is_signed) return bits >> 31 ? 0 : magnitude_index(map, magnitude_key(bits));
    const int k = magnitude_index(map, magnitude_key(bits));
    if (!(bits >> 31)) return map.zero_code + k;
    return k > map.zero_code ? 0 : map.zero_code - k;
}

// |x| <= 448.
TARPON_HOST_DEVICE uint32_t e4m3_code(float x) {
    const uint32_t bits = lanes::as_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu, sign = bits >> 31 << 7;
    if (magnitude < 0x3c800000u) {  // below 2^-6: multiples of 2^-9
        return sign | uint32_t(lanes::round_to_integer(lanes::as_float(magnitude) * 0x1p9f));
    }
    const uint32_t code = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - (120u << 3);
    return sign | (code > 126u ? 126u : code);  // 126 is 448; a NaN takes it too
}

}  // namespace detail

// The code of x, a value times reciprocal_absmax(): |x| <= 1, give or take rounding. Zeros of
// either sign take a code whose value is zero. A NaN takes some code; its block's absmax is NaN.
TARPON_HOST_DEVICE uint32_t encode(const CodeMap &map, float x) {
    const uint32_t bits = lanes::as_bits(x);
    switch (map.kind) {
        case MapKind::kDynamicSigned:
        case MapKind::kDynamicUnsigned:
        case MapKind::kDynamic4:
            return uint32_t(detail::dynamic_code(map, bits));
        case MapKind::kLinear: {
            float q = x * 127.0f;
            q = q > -127.0f ? q : -127.0f;  // in this order a NaN becomes -127
            q = q < 127.0f ? q : 127.0f;
            return uint32_t(int(lanes::round_to_integer(q))) & 255u;
        }
        case MapKind::kFp8E4M3:
            return detail::e4m3_code(x * 448.0f);
        case MapKind::kNormalFloat4:
            break;
    }
    uint32_t code = 0;
    for (int i = 0; i < 15; ++i)
        code += x > lanes::as_float(map.midpoint[i]) ? 1u : 0u;
    return code;
}

TARPON_HOST_DEVICE float decode(const CodeMap &map, uint32_t code) {
    return map.value[code];
}

}  // namespace tarpon::optim
