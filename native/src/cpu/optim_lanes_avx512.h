// Sixteen floats as a lane type of the optimizers (kernels-cu/optim/lanes.h), and the wide forms of
// the code maps: the same bits as the scalar functions, tested against them for every border.
// Included by optim_avx512.cc only.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "optim/codec.h"
#include "optim/maps.h"

namespace tarpon::cpu {
namespace {

struct F32x16 {
    __m512 v;

    F32x16() = default;
    explicit F32x16(__m512 x) : v(x) {}
    explicit F32x16(float x) : v(_mm512_set1_ps(x)) {}
};

inline F32x16 operator+(F32x16 a, F32x16 b) {
    return F32x16(_mm512_add_ps(a.v, b.v));
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
    return F32x16(_mm512_sub_ps(a.v, b.v));
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
    return F32x16(_mm512_mul_ps(a.v, b.v));
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
    return F32x16(_mm512_div_ps(a.v, b.v));
}
inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
    return F32x16(_mm512_fmadd_ps(a.v, b.v, c.v));
}
inline F32x16 sqrt(F32x16 x) {
    return F32x16(_mm512_sqrt_ps(x.v));
}
inline F32x16 max(F32x16 a, F32x16 b) {
    return F32x16(_mm512_max_ps(a.v, b.v));
}
inline F32x16 min(F32x16 a, F32x16 b) {
    return F32x16(_mm512_min_ps(a.v, b.v));
}
inline F32x16 abs(F32x16 x) {
    return F32x16(_mm512_abs_ps(x.v));
}
inline F32x16 sign(F32x16 x) {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    const __m512 above = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, zero, _CMP_GT_OQ), one);
    return F32x16(_mm512_mask_sub_ps(above, _mm512_cmp_ps_mask(x.v, zero, _CMP_LT_OQ), zero, one));
}
inline F32x16 round_to_integer(F32x16 x) {
    const __m512 bias = _mm512_set1_ps(0x1.8p23f);
    return F32x16(_mm512_sub_ps(_mm512_add_ps(x.v, bias), bias));
}
inline F32x16 exponent(F32x16 x) {
    return F32x16(_mm512_getexp_ps(x.v));
}
inline F32x16 mantissa(F32x16 x) {
    return F32x16(_mm512_getmant_ps(x.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero));
}
inline F32x16 scale_by_power_of_two(F32x16 x, F32x16 n) {
    return F32x16(_mm512_scalef_ps(x.v, n.v));
}
inline F32x16 select_less(F32x16 x, F32x16 y, F32x16 a, F32x16 b) {
    return F32x16(_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), b.v, a.v));
}
inline F32x16 copy_sign(F32x16 magnitude, F32x16 x) {
    const __m512 sign_bit = _mm512_set1_ps(-0.0f);
    return F32x16(
        _mm512_or_ps(_mm512_andnot_ps(sign_bit, magnitude.v), _mm512_and_ps(sign_bit, x.v)));
}

// The byte planes of a map's 256 values: plane b holds byte b of each.
struct DecodePlanes {
    alignas(64) uint8_t bytes[4][256] = {};

    constexpr explicit DecodePlanes(const optim::CodeMap &map) {
        for (int code = 0; code < 256; ++code) {
            const uint32_t bits = std::bit_cast<uint32_t>(map.value[code]);
            for (int b = 0; b < 4; ++b)
                bytes[b][code] = static_cast<uint8_t>(bits >> 8 * b);
        }
    }
};

inline constexpr DecodePlanes kDecodePlanes[optim::kMapKinds] = {
    DecodePlanes(optim::detail::kMaps[0]), DecodePlanes(optim::detail::kMaps[1]),
    DecodePlanes(optim::detail::kMaps[2]), DecodePlanes(optim::detail::kMaps[3]),
    DecodePlanes(optim::detail::kMaps[4]), DecodePlanes(optim::detail::kMaps[5])};

// 64 codes at a time: each byte of the values is looked up with two 128-entry byte permutations,
// then the four bytes of each value are interleaved. A gather would take ten times as long.
[[gnu::always_inline]] inline void decode_avx512(const optim::CodeMap &map, const uint8_t *codes,
                                                 int64_t n, float factor, float *out) {
    const __m512 factors = _mm512_set1_ps(factor);
    const DecodePlanes &planes = kDecodePlanes[static_cast<int>(map.kind)];
    // Interleaving works within 128-bit quarters: with the 4x4 matrix of dwords transposed first,
    // its results are 16 consecutive values each.
    const __m512i transpose =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int64_t i = 0; i < n; i += 64) {
        const __m512i index = _mm512_permutexvar_epi32(transpose, _mm512_loadu_si512(codes + i));
        const __mmask64 upper_half = _mm512_movepi8_mask(index);
        __m512i plane[4];
        for (int b = 0; b < 4; ++b) {
            const uint8_t *table = planes.bytes[b];
            const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(table), index,
                                                         _mm512_load_si512(table + 64));
            const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(table + 128), index,
                                                          _mm512_load_si512(table + 192));
            plane[b] = _mm512_mask_blend_epi8(upper_half, low, high);
        }
        const __m512i low01 = _mm512_unpacklo_epi8(plane[0], plane[1]);
        const __m512i high01 = _mm512_unpackhi_epi8(plane[0], plane[1]);
        const __m512i low23 = _mm512_unpacklo_epi8(plane[2], plane[3]);
        const __m512i high23 = _mm512_unpackhi_epi8(plane[2], plane[3]);
        auto put = [&](int64_t at, __m512i bits) {
            _mm512_storeu_ps(out + at, _mm512_mul_ps(_mm512_castsi512_ps(bits), factors));
        };
        put(i, _mm512_unpacklo_epi16(low01, low23));
        put(i + 16, _mm512_unpackhi_epi16(low01, low23));
        put(i + 32, _mm512_unpacklo_epi16(high01, high23));
        put(i + 48, _mm512_unpackhi_epi16(high01, high23));
    }
}

// The tables of magnitude_index() (maps.h) in fixed point: an index has its integer in the upper 8
// bits and its fraction in the lower 24, so that the integers of four vectors become 64 codes by
// three permutations, and one test of the fraction's bits finds the indices that may be wrong.
struct EncoderTables {
    static constexpr float kOne = 0x1p24f;
    static constexpr float kUnsure = 2 * optim::kGuessSlack * kOne;
    // All bits of the fraction that count kUnsure or more.
    static constexpr int kSureBits = 0xffffff & -static_cast<int>(kUnsure);

    alignas(64) uint32_t limit[optim::kBinades] = {};
    alignas(64) int32_t piece[optim::kBinades] = {};
    alignas(64) float scale[optim::kMaxPieces] = {};
    alignas(64) float offset[optim::kMaxPieces] = {};
    alignas(64) float last[optim::kMaxPieces] = {};

    constexpr explicit EncoderTables(const optim::CodeMap &map) {
        for (int i = 0; i < optim::kBinades; ++i) {
            limit[i] = map.binade_limit[i];
            piece[i] = map.binade_piece[i];
        }
        for (int i = 0; i < optim::kMaxPieces; ++i) {
            scale[i] = map.piece_scale[i] * kOne;
            // Raised by as much as the map's guess is lowered, so that what may be wrong lies just
            // above an integer; a piece of one index stays in the middle between two.
            offset[i] = map.piece_offset[i] * kOne + (scale[i] != 0 ? kUnsure : kOne / 2);
            last[i] = map.piece_last[i] * kOne + kOne / 2;
        }
    }
};

inline constexpr EncoderTables kEncoderTables[optim::kMapKinds] = {
    EncoderTables(optim::detail::kMaps[0]), EncoderTables(optim::detail::kMaps[1]),
    EncoderTables(optim::detail::kMaps[2]), EncoderTables(optim::detail::kMaps[3]),
    EncoderTables(optim::detail::kMaps[4]), EncoderTables(optim::detail::kMaps[5])};

// The lower 32 bytes: the upper byte of each dword of two vectors.
struct UpperBytes {
    alignas(64) uint8_t index[64] = {};

    constexpr UpperBytes() {
        for (int i = 0; i < 32; ++i)
            index[i] = static_cast<uint8_t>(4 * i + 3);
    }
};

// Encodes by a dynamic map, with its tables in registers.
template <bool kSigned>
class DynamicEncoder {
  public:
    explicit DynamicEncoder(const optim::CodeMap &map)
        : map_(map), tables_(kEncoderTables[static_cast<int>(map.kind)]) {}

    // 64 codes of values * factor.
    void encode(const float *values, __m512 factor, uint8_t *codes) const {
        __m512i index[4];
        __mmask16 negative[4] = {}, unsure[4];
        for (int i = 0; i < 4; ++i) {
            index[i] = magnitude_index(_mm512_mul_ps(_mm512_loadu_ps(values + 16 * i), factor),
                                       &negative[i], &unsure[i]);
        }
        static constexpr UpperBytes kUpperBytes;
        const __m512i upper = _mm512_load_si512(kUpperBytes.index);
        const __m512i low = _mm512_permutex2var_epi8(index[0], upper, index[1]);
        const __m512i high = _mm512_permutex2var_epi8(index[2], upper, index[3]);
        __m512i code = _mm512_shuffle_i64x2(low, high, _MM_SHUFFLE(1, 0, 1, 0));
        if constexpr (kSigned) {
            const __m512i zero = _mm512_set1_epi8(static_cast<char>(map_.zero_code));
            code = _mm512_mask_subs_epu8(_mm512_add_epi8(zero, code), joined(negative), zero, code);
        }
        _mm512_storeu_si512(codes, code);
        if (__builtin_expect(!_kortestz_mask16_u8(_kor_mask16(unsure[0], unsure[1]),
                                                  _kor_mask16(unsure[2], unsure[3])),
                             0)) {
            settle(map_, values, _mm512_cvtss_f32(factor), joined(unsure), codes);
        }
    }

  private:
    // Sets bits of *negative, and of *unsure where the index may be one too large.
    __m512i magnitude_index(__m512 x, __mmask16 *negative, __mmask16 *unsure) const {
        const __m512i one = _mm512_set1_epi32(1), smallest = _mm512_set1_epi32(optim::kSmallestKey);
        __m512i key = _mm512_castps_si512(x);
        if constexpr (kSigned) {
            // On a midpoint a negative x takes the larger magnitude: it counts as one more.
            *negative = _mm512_movepi32_mask(key);
            key = _mm512_and_si512(key, _mm512_set1_epi32(0x7fffffff));
            key = _mm512_max_epu32(_mm512_mask_add_epi32(key, *negative, key, one), smallest);
        } else {
            key = _mm512_max_epi32(key, smallest);  // a negative x becomes 0
        }
        // The permutations take the binade modulo 32; that of 1.0 is the last.
        const __m512i binade = _mm512_srli_epi32(key, 23);
        const __m512i limit = _mm512_permutex2var_epi32(_mm512_load_si512(tables_.limit), binade,
                                                        _mm512_load_si512(tables_.limit + 16));
        __m512i piece = _mm512_permutex2var_epi32(_mm512_load_si512(tables_.piece), binade,
                                                  _mm512_load_si512(tables_.piece + 16));
        piece = _mm512_mask_add_epi32(piece, _mm512_cmpgt_epu32_mask(key, limit), piece, one);
        auto of_piece = [&](const float *table) {
            return _mm512_permutexvar_ps(piece, _mm512_load_ps(table));
        };
        const __m512 linear = _mm512_fmadd_ps(_mm512_castsi512_ps(key), of_piece(tables_.scale),
                                              of_piece(tables_.offset));
        // In this order a NaN takes the last index.
        const __m512i index = _mm512_cvttps_epu32(_mm512_min_ps(linear, of_piece(tables_.last)));
        *unsure = _mm512_testn_epi32_mask(index, _mm512_set1_epi32(EncoderTables::kSureBits));
        return index;
    }

    static __mmask64 joined(const __mmask16 *masks) {
        return _mm512_kunpackd(_mm512_kunpackw(masks[3], masks[2]),
                               _mm512_kunpackw(masks[1], masks[0]));
    }

    // One value in two thousand is encoded again, by itself; not inlined, so that the loops have no
    // calls in them otherwise.
    __attribute__((noinline)) static void settle(const optim::CodeMap &map, const float *values,
                                                 float factor, uint64_t unsure, uint8_t *codes) {
        for (; unsure != 0; unsure &= unsure - 1) {
            const int at = __builtin_ctzll(unsure);
            codes[at] = static_cast<uint8_t>(optim::encode(map, values[at] * factor));
        }
    }

    const optim::CodeMap &map_;
    const EncoderTables &tables_;
};

template <bool kSigned>
[[gnu::always_inline]] inline void encode_dynamic(const optim::CodeMap &map, const float *values,
                                                  int64_t n, float factor, uint8_t *codes) {
    const DynamicEncoder<kSigned> encoder(map);
    const __m512 factors = _mm512_set1_ps(factor);
    for (int64_t i = 0; i < n; i += 64)
        encoder.encode(values + i, factors, codes + i);
}

inline __m512i encode_linear(__m512 x) {
    __m512 q = _mm512_mul_ps(x, _mm512_set1_ps(127.0f));
    q = _mm512_max_ps(q, _mm512_set1_ps(-127.0f));
    q = _mm512_min_ps(q, _mm512_set1_ps(127.0f));
    return _mm512_cvtps_epi32(q);
}

inline __m512i encode_e4m3(__m512 x) {
    const __m512i bits = _mm512_castps_si512(_mm512_mul_ps(x, _mm512_set1_ps(448.0f)));
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    const __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(bits, 31), 7);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
    __m512i code = _mm512_srli_epi32(
        _mm512_add_epi32(magnitude, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff))), 20);
    code = _mm512_sub_epi32(code, _mm512_set1_epi32(120 << 3));
    code = _mm512_min_epu32(code, _mm512_set1_epi32(126));
    const __m512i subnormal =
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p9f)));
    const __mmask16 small = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x3c800000));
    return _mm512_or_si512(sign, _mm512_mask_mov_epi32(code, small, subnormal));
}

inline __m512i encode_normal_float4(const optim::CodeMap &map, __m512 x) {
    __m512i code = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi32(1);
    for (int i = 0; i < 15; ++i) {
        const __m512 midpoint = _mm512_castsi512_ps(_mm512_set1_epi32(int(map.midpoint[i])));
        code = _mm512_mask_add_epi32(code, _mm512_cmp_ps_mask(x, midpoint, _CMP_GT_OQ), code, one);
    }
    return code;
}

[[gnu::always_inline]] inline void encode_avx512(const optim::CodeMap &map, const float *values,
                                                 int64_t n, float factor, uint8_t *codes) {
    const __m512 factors = _mm512_set1_ps(factor);
    auto all = [&](auto encode) {
        for (int64_t i = 0; i < n; i += 16) {
            const __m512i code = encode(_mm512_mul_ps(_mm512_loadu_ps(values + i), factors));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(codes + i), _mm512_cvtepi32_epi8(code));
        }
    };
    switch (map.kind) {
        case optim::MapKind::kDynamicSigned:
        case optim::MapKind::kDynamic4:
            return encode_dynamic<true>(map, values, n, factor, codes);
        case optim::MapKind::kDynamicUnsigned:
            return encode_dynamic<false>(map, values, n, factor, codes);
        case optim::MapKind::kLinear:
            return all([](__m512 x) { return encode_linear(x); });
        case optim::MapKind::kFp8E4M3:
            return all([](__m512 x) { return encode_e4m3(x); });
        case optim::MapKind::kNormalFloat4:
            return all([&](__m512 x) { return encode_normal_float4(map, x); });
    }
}

}  // namespace
}  // namespace tarpon::cpu
