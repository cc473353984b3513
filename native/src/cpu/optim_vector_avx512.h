// Sixteen floats, and sixteen words of 32 bits, with the operations that the optimizers' rules
// (kernels-cu/optim/lanes.h) and codes (optim_codes.inl.h) are written in; AVX-512 with VBMI.
// optim_vector_avx2.h has the same for eight. Included by optim_avx512.cc only.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "cpu/optim_repeat.h"
#include "optim/maps.h"

namespace tarpon::cpu {
namespace {

struct U32x16 {
    __m512i v;

    U32x16() = default;
    explicit U32x16(__m512i x) : v(x) {}
    // By way of floats, so that compilers load a constant instead of moving it out of a general
    // register every time.
    explicit U32x16(uint32_t x) : v(_mm512_castps_si512(_mm512_set1_ps(std::bit_cast<float>(x)))) {}

    // 0, 1, 2 ...
    static U32x16 lane_numbers() {
        return U32x16(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
    // Bytes as words, and the low bytes of words.
    static U32x16 load_bytes(const uint8_t *p) {
        return U32x16(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
    }
    void store_bytes(uint8_t *p) const {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtepi32_epi8(v));
    }
};

struct F32x16 {
    using Bits = U32x16;
    static constexpr int kWidth = 16;
    __m512 v;

    F32x16() = default;
    explicit F32x16(__m512 x) : v(x) {}
    explicit F32x16(float x) : v(_mm512_set1_ps(x)) {}

    static F32x16 load(const float *p) { return F32x16(_mm512_loadu_ps(p)); }
    static F32x16 load(const half_t *p) {
        return F32x16(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p))));
    }
    static F32x16 load(const bf16_t *p) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
        return F32x16(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
    }
    void store(float *p) const { _mm512_storeu_ps(p, v); }
    // To nearest even; a NaN becomes from_float's.
    void store(half_t *p) const {
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m256i bits = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                            _mm256_mask_mov_epi16(bits, nan, _mm256_set1_epi16(0x7fff)));
    }
    void store(bf16_t *p) const {
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_srli_epi32(
            _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
        _mm256_storeu_si256(
            reinterpret_cast<__m256i *>(p),
            _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fff))));
    }
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
    // Bit by bit: the mask's bit chooses between x and the magnitude.
    const __m512i sign_bit = _mm512_set1_epi32(INT32_MIN);
    return F32x16(_mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        sign_bit, _mm512_castps_si512(x.v), _mm512_castps_si512(magnitude.v), 0xca)));
}
// min(|x|, 1), and 1 for a NaN.
inline F32x16 magnitude_up_to_one(F32x16 x) {
    constexpr int kSmallerMagnitude = 2, kClearSign = 2 << 2;
    return F32x16(_mm512_range_ps(x.v, _mm512_set1_ps(1.0f), kSmallerMagnitude | kClearSign));
}

inline U32x16 bits_of(F32x16 x) {
    return U32x16(_mm512_castps_si512(x.v));
}
inline F32x16 floats_of(U32x16 x) {
    return F32x16(_mm512_castsi512_ps(x.v));
}
inline U32x16 operator+(U32x16 a, U32x16 b) {
    return U32x16(_mm512_add_epi32(a.v, b.v));
}
inline U32x16 operator-(U32x16 a, U32x16 b) {
    return U32x16(_mm512_sub_epi32(a.v, b.v));
}
inline U32x16 operator*(U32x16 a, U32x16 b) {
    return U32x16(_mm512_mullo_epi32(a.v, b.v));
}
inline U32x16 operator&(U32x16 a, U32x16 b) {
    return U32x16(_mm512_and_si512(a.v, b.v));
}
inline U32x16 operator|(U32x16 a, U32x16 b) {
    return U32x16(_mm512_or_si512(a.v, b.v));
}
inline U32x16 operator^(U32x16 a, U32x16 b) {
    return U32x16(_mm512_xor_si512(a.v, b.v));
}
template <int kBits>
inline U32x16 shift_right(U32x16 x) {
    return U32x16(_mm512_srli_epi32(x.v, kBits));
}
template <int kBits>
inline U32x16 rotate_left(U32x16 x) {
    return U32x16(_mm512_rol_epi32(x.v, kBits));
}
inline U32x16 shift_left(U32x16 x, U32x16 counts) {
    return U32x16(_mm512_sllv_epi32(x.v, counts.v));
}
inline U32x16 max(U32x16 a, U32x16 b) {
    return U32x16(_mm512_max_epu32(a.v, b.v));
}
inline U32x16 min(U32x16 a, U32x16 b) {
    return U32x16(_mm512_min_epu32(a.v, b.v));
}
inline U32x16 max_signed(U32x16 a, U32x16 b) {
    return U32x16(_mm512_max_epi32(a.v, b.v));
}
// To integers, ties to even; x within int32_t.
inline U32x16 rounded(F32x16 x) {
    return U32x16(_mm512_cvtps_epi32(x.v));
}
// Of words below 2^31.
inline F32x16 to_floats(U32x16 x) {
    return F32x16(_mm512_cvtepi32_ps(x.v));
}
// a where x < y, else b; x and y below 2^31.
inline U32x16 select_less(U32x16 x, U32x16 y, U32x16 a, U32x16 b) {
    return U32x16(_mm512_mask_mov_epi32(b.v, _mm512_cmplt_epu32_mask(x.v, y.v), a.v));
}
inline U32x16 select_less(F32x16 x, F32x16 y, U32x16 a, U32x16 b) {
    return U32x16(_mm512_mask_mov_epi32(b.v, _mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), a.v));
}
// One bit a lane: whether x & set is zero; whether x < y.
inline uint32_t lanes_without(U32x16 x, U32x16 set) {
    return _mm512_testn_epi32_mask(x.v, set.v);
}
inline uint32_t lanes_less(F32x16 x, F32x16 y) {
    return _mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ);
}
inline uint32_t largest_of(U32x16 x) {
    return _mm512_reduce_max_epu32(x.v);
}
inline uint32_t smallest_of(U32x16 x) {
    return _mm512_reduce_min_epu32(x.v);
}

// Sixteen sums of squares in binary64, added up in a fixed order.
class SquareSum {
  public:
    void add(int64_t, F32x16 x) {
        const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v));
        const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1));
        low_ = _mm512_fmadd_pd(low, low, low_);
        high_ = _mm512_fmadd_pd(high, high, high_);
    }
    double total() const {
        alignas(64) double sums[8];
        _mm512_store_pd(sums, _mm512_add_pd(low_, high_));
        for (int half = 4; half > 0; half /= 2) {
            for (int i = 0; i < half; ++i)
                sums[i] += sums[i + half];
        }
        return sums[0];
    }

  private:
    __m512d low_ = _mm512_setzero_pd(), high_ = _mm512_setzero_pd();
};

// table[index % 16].
inline F32x16 look_up(const float *table, U32x16 index) {
    return F32x16(_mm512_permutexvar_ps(index.v, _mm512_load_ps(table)));
}

// table[index % 32].
inline U32x16 look_up_32(const uint32_t *table, U32x16 index) {
    return U32x16(_mm512_permutex2var_epi32(_mm512_load_si512(table), index.v,
                                            _mm512_load_si512(table + 16)));
}

// Finds the piece of a dynamic map that x lies in (maps.h): 0 for what becomes zero, then the
// decades, then 1.0. One addition decides between a binade's two pieces: what it adds to a key
// carries into the bits above the mantissa from the border on.
template <bool kSigned>
class PieceFinder {
  public:
    constexpr explicit PieceFinder(const optim::CodeMap &map) {
        for (uint32_t i = 0; i < optim::kBinades; ++i) {
            const uint32_t piece = static_cast<uint32_t>(map.binade_piece[i]);
            const uint32_t exponent = 96 + i;  // of the binade whose exponent % 32 is i
            const uint32_t limit = map.binade_limit[i];
            const bool has_border = limit <= (exponent << 23 | 0x7fffff);
            step_[i] = has_border ? ((piece + 1) << kShift) - (limit << kDoubled) - 1
                                  : (piece - exponent) << kShift;
        }
    }

    // Also sets *magnitude to |x|, clamped to [0, 1] or a little more than 0. Fs: vectors.
    template <class Fs>
    TARPON_INLINE typename Fs::Bits operator()(Fs x, Fs *magnitude) const {
        typename Fs::Bits key, piece;
        const U32x16 smallest(optim::kSmallestKey << kDoubled), one(optim::kOneKey << kDoubled);
        repeat<Fs::kCount>([&](auto i) TARPON_INLINE {
            const U32x16 bits = bits_of(x.v[i]);
            if constexpr (kSigned) {
                // Twice the magnitude, plus one if x is negative: it is above a midpoint then.
                key.v[i] = min(max(rotate_left<1>(bits), smallest), one);
                magnitude->v[i] = magnitude_up_to_one(x.v[i]);
            } else {
                key.v[i] = min(max_signed(bits, smallest), one);  // of a negative x, too
                magnitude->v[i] = floats_of(key.v[i]);
            }
        });
        repeat<Fs::kCount>([&](auto i) TARPON_INLINE {
            // The look-up takes the binade modulo 32; that of 1.0 is the last.
            const U32x16 step = look_up_32(step_, shift_right<kShift>(key.v[i]));
            piece.v[i] = shift_right<kShift>(key.v[i] + step);
        });
        return piece;
    }

  private:
    static constexpr int kDoubled = kSigned ? 1 : 0, kShift = 23 + kDoubled;
    alignas(64) uint32_t step_[optim::kBinades] = {};
};

// The upper bytes of the dwords of two vectors, in the lower 32 bytes.
struct UpperBytes {
    alignas(64) uint8_t index[64] = {};

    constexpr UpperBytes() {
        for (int i = 0; i < 32; ++i)
            index[i] = static_cast<uint8_t>(4 * i + 3);
    }
};

inline __m512i upper_bytes(const U32x16 *words) {
    static constexpr UpperBytes kUpperBytes;
    const __m512i upper = _mm512_load_si512(kUpperBytes.index);
    const __m512i low = _mm512_permutex2var_epi8(words[0].v, upper, words[1].v);
    const __m512i high = _mm512_permutex2var_epi8(words[2].v, upper, words[3].v);
    return _mm512_shuffle_i64x2(low, high, _MM_SHUFFLE(1, 0, 1, 0));
}

// 64 codes of a dynamic map, from the upper bytes of four vectors of indices.
template <bool kSigned>
class CodeBytes {
  public:
    TARPON_INLINE void set(int i, F32x16 x, U32x16 index) {
        index_[i] = index;
        if constexpr (kSigned) negative_[i] = _mm512_movepi32_mask(_mm512_castps_si512(x.v));
    }
    // Signed: zero_code plus or minus the index, by the sign of x; not below 0. Unsigned: the index
    // less one, modulo 256.
    TARPON_INLINE void store(int zero_code, uint8_t *codes) const {
        const __m512i k = upper_bytes(index_);
        if constexpr (kSigned) {
            const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_code));
            const __mmask64 negative = _mm512_kunpackd(_mm512_kunpackw(negative_[3], negative_[2]),
                                                       _mm512_kunpackw(negative_[1], negative_[0]));
            _mm512_storeu_si512(codes,
                                _mm512_mask_subs_epu8(_mm512_add_epi8(zero, k), negative, zero, k));
        } else {
            _mm512_storeu_si512(codes, _mm512_sub_epi8(k, _mm512_set1_epi8(1)));
        }
    }

  private:
    U32x16 index_[4];
    __mmask16 negative_[4];
};

// A table of 256 floats by its byte planes: plane b holds byte b of each.
struct Table256 {
    alignas(64) uint8_t bytes[4][256] = {};

    constexpr explicit Table256(const float *values) {
        for (int code = 0; code < 256; ++code) {
            const uint32_t bits = std::bit_cast<uint32_t>(values[code]);
            for (int b = 0; b < 4; ++b)
                bytes[b][code] = static_cast<uint8_t>(bits >> 8 * b);
        }
    }
};

inline constexpr Table256 kValues[optim::kMapKinds] = {
    Table256(optim::detail::kMaps[0].value), Table256(optim::detail::kMaps[1].value),
    Table256(optim::detail::kMaps[2].value), Table256(optim::detail::kMaps[3].value),
    Table256(optim::detail::kMaps[4].value), Table256(optim::detail::kMaps[5].value)};

// 64 codes with the 4x4 matrix of their dwords transposed: interleaving bytes works within 128-bit
// quarters, and this way its results are 16 consecutive values each.
inline __m512i transposed_codes(const uint8_t *codes) {
    const __m512i transpose =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(transpose, _mm512_loadu_si512(codes));
}

inline void interleave(const __m512i *plane, F32x16 factor, F32x16 *out) {
    const __m512i low01 = _mm512_unpacklo_epi8(plane[0], plane[1]);
    const __m512i high01 = _mm512_unpackhi_epi8(plane[0], plane[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(plane[2], plane[3]);
    const __m512i high23 = _mm512_unpackhi_epi8(plane[2], plane[3]);
    out[0] = floats_of(U32x16(_mm512_unpacklo_epi16(low01, low23))) * factor;
    out[1] = floats_of(U32x16(_mm512_unpackhi_epi16(low01, low23))) * factor;
    out[2] = floats_of(U32x16(_mm512_unpacklo_epi16(high01, high23))) * factor;
    out[3] = floats_of(U32x16(_mm512_unpackhi_epi16(high01, high23))) * factor;
}

inline __m512i entries(const uint8_t *table128, __m512i index) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table128), index,
                                    _mm512_load_si512(table128 + 64));
}

// 64 table entries times factor: each byte is looked up in two tables of 128. A gather would take
// ten times as long.
inline void look_up_64(const Table256 &table, const uint8_t *codes, F32x16 factor, F32x16 *out) {
    const __m512i index = transposed_codes(codes);
    const __mmask64 upper_half = _mm512_movepi8_mask(index);
    __m512i plane[4];
    for (int b = 0; b < 4; ++b) {
        plane[b] = _mm512_mask_blend_epi8(upper_half, entries(table.bytes[b], index),
                                          entries(table.bytes[b] + 128, index));
    }
    interleave(plane, factor, out);
}

// The same for a table of 128 entries, with the codes' upper bits ignored.
inline void look_up_64_of_128(const Table256 &table, const uint8_t *codes, F32x16 factor,
                              F32x16 *out) {
    const __m512i index = transposed_codes(codes);
    __m512i plane[4];
    for (int b = 0; b < 4; ++b)
        plane[b] = entries(table.bytes[b], index);
    interleave(plane, factor, out);
}

// The signed dynamic map is symmetric around code 127, so that 127 magnitudes and a sign do, but
// for the last code, which is 1.0 without a negative of its own.
struct SignedMagnitudes {
    float value[256] = {};

    constexpr SignedMagnitudes() {
        const optim::CodeMap &map = optim::detail::kMaps[int(optim::MapKind::kDynamicSigned)];
        for (int k = 0; k < 128; ++k)
            value[k] = map.value[127 + k];
    }
};
inline constexpr Table256 kSignedMagnitudes{SignedMagnitudes().value};

inline void decode_signed_64(const uint8_t *codes, F32x16 factor, F32x16 *out) {
    const __m512i index = transposed_codes(codes);
    const __m512i offset = _mm512_sub_epi8(index, _mm512_set1_epi8(127));
    const __m512i k = _mm512_abs_epi8(offset);  // 128 for the last code, which reads entry 0
    const __mmask64 is_one = _mm512_cmpeq_epi8_mask(index, _mm512_set1_epi8(-1));
    __m512i plane[4];
    for (int b = 0; b < 4; ++b)
        plane[b] = entries(kSignedMagnitudes.bytes[b], k);
    constexpr int kOrWithAnd = 0xf8;  // a | (b & c)
    plane[3] = _mm512_ternarylogic_epi32(plane[3], offset, _mm512_set1_epi8(-128), kOrWithAnd);
    plane[3] = _mm512_mask_mov_epi8(plane[3], is_one, _mm512_set1_epi8(0x3f));
    plane[2] = _mm512_mask_mov_epi8(plane[2], is_one, _mm512_set1_epi8(static_cast<char>(0x80)));
    interleave(plane, factor, out);
}

// 64 values of a map times factor.
TARPON_INLINE inline void decode_64(optim::MapKind kind, const uint8_t *codes, F32x16 factor,
                                    F32x16 *out) {
    if (kind == optim::MapKind::kDynamicSigned) return decode_signed_64(codes, factor, out);
    look_up_64(kValues[static_cast<int>(kind)], codes, factor, out);
}

}  // namespace
}  // namespace tarpon::cpu
