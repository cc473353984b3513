// Eight floats, and eight words of 32 bits, with the operations that the optimizers' rules
// (kernels-cu/optim/lanes.h) and codes (optim_codes.inl.h) are written in; AVX2, FMA and F16C.
// optim_vector_avx512.h has the same for sixteen. Included by optim_avx2.cc only.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/optim_repeat.h"
#include "optim/maps.h"

namespace tarpon::cpu {
namespace {

struct U32x8 {
    __m256i v;

    U32x8() = default;
    explicit U32x8(__m256i x) : v(x) {}
    explicit U32x8(uint32_t x) : v(_mm256_set1_epi32(static_cast<int>(x))) {}

    // 0, 1, 2 ...
    static U32x8 lane_numbers() { return U32x8(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
    // Bytes as words, and the low bytes of words.
    static U32x8 load_bytes(const uint8_t *p) {
        return U32x8(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))));
    }
    void store_bytes(uint8_t *p) const {
        const __m256i bytes = _mm256_and_si256(v, _mm256_set1_epi32(255));
        const __m128i halves =
            _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i *>(p), _mm_packus_epi16(halves, halves));
    }
};

struct F32x8 {
    using Bits = U32x8;
    static constexpr int kWidth = 8;
    __m256 v;

    F32x8() = default;
    explicit F32x8(__m256 x) : v(x) {}
    explicit F32x8(float x) : v(_mm256_set1_ps(x)) {}

    static F32x8 load(const float *p) { return F32x8(_mm256_loadu_ps(p)); }
    static F32x8 load(const half_t *p) {
        return F32x8(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
    }
    static F32x8 load(const bf16_t *p) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
        return F32x8(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
    }
    void store(float *p) const { _mm256_storeu_ps(p, v); }
    // To nearest even; a NaN becomes from_float's.
    void store(half_t *p) const {
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m128i nan_words =
            _mm_packs_epi32(_mm256_castsi256_si128(nan), _mm256_extracti128_si256(nan, 1));
        const __m128i bits = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p),
                         _mm_blendv_epi8(bits, _mm_set1_epi16(0x7fff), nan_words));
    }
    void store(bf16_t *p) const {
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i rounded = _mm256_srli_epi32(
            _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
        rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fff), nan);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p),
                         _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                          _mm256_extracti128_si256(rounded, 1)));
    }
};

inline F32x8 operator+(F32x8 a, F32x8 b) {
    return F32x8(_mm256_add_ps(a.v, b.v));
}
inline F32x8 operator-(F32x8 a, F32x8 b) {
    return F32x8(_mm256_sub_ps(a.v, b.v));
}
inline F32x8 operator*(F32x8 a, F32x8 b) {
    return F32x8(_mm256_mul_ps(a.v, b.v));
}
inline F32x8 operator/(F32x8 a, F32x8 b) {
    return F32x8(_mm256_div_ps(a.v, b.v));
}
inline F32x8 fma(F32x8 a, F32x8 b, F32x8 c) {
    return F32x8(_mm256_fmadd_ps(a.v, b.v, c.v));
}
inline F32x8 sqrt(F32x8 x) {
    return F32x8(_mm256_sqrt_ps(x.v));
}
inline F32x8 max(F32x8 a, F32x8 b) {
    return F32x8(_mm256_max_ps(a.v, b.v));
}
inline F32x8 min(F32x8 a, F32x8 b) {
    return F32x8(_mm256_min_ps(a.v, b.v));
}
inline F32x8 abs(F32x8 x) {
    return F32x8(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v));
}
inline F32x8 sign(F32x8 x) {
    const __m256 zero = _mm256_setzero_ps();
    const __m256 above = _mm256_and_ps(_mm256_cmp_ps(x.v, zero, _CMP_GT_OQ), _mm256_set1_ps(1.0f));
    const __m256 below = _mm256_and_ps(_mm256_cmp_ps(x.v, zero, _CMP_LT_OQ), _mm256_set1_ps(-1.0f));
    return F32x8(_mm256_or_ps(above, below));
}
inline F32x8 round_to_integer(F32x8 x) {
    const __m256 bias = _mm256_set1_ps(0x1.8p23f);
    return F32x8(_mm256_sub_ps(_mm256_add_ps(x.v, bias), bias));
}
inline F32x8 exponent(F32x8 x) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x.v), 23);
    return F32x8(_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127))));
}
inline F32x8 mantissa(F32x8 x) {
    const __m256i fraction =
        _mm256_and_si256(_mm256_castps_si256(x.v), _mm256_set1_epi32(0x7fffff));
    return F32x8(_mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f800000))));
}
inline F32x8 scale_by_power_of_two(F32x8 x, F32x8 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvttps_epi32(n.v), _mm256_set1_epi32(127));
    return F32x8(_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))));
}
inline F32x8 select_less(F32x8 x, F32x8 y, F32x8 a, F32x8 b) {
    return F32x8(_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, y.v, _CMP_LT_OQ)));
}
inline F32x8 copy_sign(F32x8 magnitude, F32x8 x) {
    const __m256 sign_bit = _mm256_set1_ps(-0.0f);
    return F32x8(
        _mm256_or_ps(_mm256_andnot_ps(sign_bit, magnitude.v), _mm256_and_ps(sign_bit, x.v)));
}
// min(|x|, 1), and 1 for a NaN.
inline F32x8 magnitude_up_to_one(F32x8 x) {
    return min(abs(x), F32x8(1.0f));
}

inline U32x8 bits_of(F32x8 x) {
    return U32x8(_mm256_castps_si256(x.v));
}
inline F32x8 floats_of(U32x8 x) {
    return F32x8(_mm256_castsi256_ps(x.v));
}
inline U32x8 operator+(U32x8 a, U32x8 b) {
    return U32x8(_mm256_add_epi32(a.v, b.v));
}
inline U32x8 operator-(U32x8 a, U32x8 b) {
    return U32x8(_mm256_sub_epi32(a.v, b.v));
}
inline U32x8 operator*(U32x8 a, U32x8 b) {
    return U32x8(_mm256_mullo_epi32(a.v, b.v));
}
inline U32x8 operator&(U32x8 a, U32x8 b) {
    return U32x8(_mm256_and_si256(a.v, b.v));
}
inline U32x8 operator|(U32x8 a, U32x8 b) {
    return U32x8(_mm256_or_si256(a.v, b.v));
}
inline U32x8 operator^(U32x8 a, U32x8 b) {
    return U32x8(_mm256_xor_si256(a.v, b.v));
}
template <int kBits>
inline U32x8 shift_right(U32x8 x) {
    return U32x8(_mm256_srli_epi32(x.v, kBits));
}
inline U32x8 shift_left(U32x8 x, U32x8 counts) {
    return U32x8(_mm256_sllv_epi32(x.v, counts.v));
}
inline U32x8 max(U32x8 a, U32x8 b) {
    return U32x8(_mm256_max_epu32(a.v, b.v));
}
inline U32x8 min(U32x8 a, U32x8 b) {
    return U32x8(_mm256_min_epu32(a.v, b.v));
}
inline U32x8 max_signed(U32x8 a, U32x8 b) {
    return U32x8(_mm256_max_epi32(a.v, b.v));
}
// To integers, ties to even; x within int32_t.
inline U32x8 rounded(F32x8 x) {
    return U32x8(_mm256_cvtps_epi32(x.v));
}
// Of words below 2^31.
inline F32x8 to_floats(U32x8 x) {
    return F32x8(_mm256_cvtepi32_ps(x.v));
}
// a where x < y, else b; x and y below 2^31.
inline U32x8 select_less(U32x8 x, U32x8 y, U32x8 a, U32x8 b) {
    return U32x8(_mm256_blendv_epi8(b.v, a.v, _mm256_cmpgt_epi32(y.v, x.v)));
}
inline U32x8 select_less(F32x8 x, F32x8 y, U32x8 a, U32x8 b) {
    return U32x8(
        _mm256_blendv_epi8(b.v, a.v, _mm256_castps_si256(_mm256_cmp_ps(x.v, y.v, _CMP_LT_OQ))));
}
// One bit a lane: whether x & set is zero; whether x < y.
inline uint32_t lanes_without(U32x8 x, U32x8 set) {
    const __m256i none = _mm256_cmpeq_epi32(_mm256_and_si256(x.v, set.v), _mm256_setzero_si256());
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(none)));
}
inline uint32_t lanes_less(F32x8 x, F32x8 y) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.v, y.v, _CMP_LT_OQ)));
}
inline uint32_t largest_of(U32x8 x) {
    alignas(32) uint32_t words[8];
    _mm256_store_si256(reinterpret_cast<__m256i *>(words), x.v);
    return *std::max_element(words, words + 8);
}
inline uint32_t smallest_of(U32x8 x) {
    alignas(32) uint32_t words[8];
    _mm256_store_si256(reinterpret_cast<__m256i *>(words), x.v);
    return *std::min_element(words, words + 8);
}

// Sixteen sums of squares in binary64, added up in a fixed order.
class SquareSum {
  public:
    void add(int64_t i, F32x8 x) {
        __m256d *sums = sums_ + i / 8 % 2 * 2;
        const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x.v));
        const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1));
        sums[0] = _mm256_fmadd_pd(low, low, sums[0]);
        sums[1] = _mm256_fmadd_pd(high, high, sums[1]);
    }
    double total() const {
        alignas(32) double sums[16];
        for (int i = 0; i < 4; ++i)
            _mm256_store_pd(sums + 4 * i, sums_[i]);
        for (int half = 8; half > 0; half /= 2) {
            for (int i = 0; i < half; ++i)
                sums[i] += sums[i + half];
        }
        return sums[0];
    }

  private:
    __m256d sums_[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(),
                        _mm256_setzero_pd()};
};

// table[index], index < 16.
inline F32x8 look_up(const float *table, U32x8 index) {
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(table), index.v);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 8), index.v);
    const __m256i in_high = _mm256_slli_epi32(index.v, 28);  // bit 3 becomes the sign
    return F32x8(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(in_high)));
}

// Finds the piece of a dynamic map that x lies in (maps.h): 0 for what becomes zero, then the
// decades, then 1.0. The exponent tells the piece at its binade's lower end, and one comparison
// with the border above that piece decides, because a binade has a border at most.
template <bool kSigned>
class PieceFinder {
  public:
    constexpr explicit PieceFinder(const optim::CodeMap &map) {
        std::fill(border_, border_ + 8, INT32_MAX);
        for (int exponent = 96; exponent < 127; ++exponent) {
            const int i = exponent % optim::kBinades, piece = map.binade_piece[i];
            for (int quarter = 0; quarter < 32; quarter += 16)  // of 128 bits
                lower_[exponent / 16 % 2][quarter + exponent % 16] = static_cast<uint8_t>(piece);
            const bool has_border = map.binade_limit[i] <= optim::kOneKey;
            if (has_border) border_[piece] = static_cast<int32_t>(map.binade_limit[i]);
        }
        // The piece of 1.0 is that after the last decade: 1.0 is above that decade's border.
        lower_[1][15] = lower_[1][31] = lower_[1][14];
    }

    // Also sets *magnitude to |x|, clamped to [0, 1] or a little more than 0. Fs: vectors.
    template <class Fs>
    TARPON_INLINE typename Fs::Bits operator()(Fs x, Fs *magnitude) const {
        typename Fs::Bits piece;
        repeat<Fs::kCount>([&](auto i)
                               TARPON_INLINE { piece.v[i] = find(x.v[i], magnitude->v + i); });
        return piece;
    }

  private:
    TARPON_INLINE U32x8 find(F32x8 x, F32x8 *magnitude) const {
        U32x8 key = bits_of(x);
        const U32x8 smallest(optim::kSmallestKey), one(optim::kOneKey);
        if constexpr (kSigned) {
            // On a midpoint a negative x takes the larger magnitude: it counts as one more.
            const U32x8 negative = shift_right<31>(key);
            key = min(max((key & U32x8(0x7fffffffu)) + negative, smallest), one);
            *magnitude = magnitude_up_to_one(x);
        } else {
            key = min(max_signed(key, smallest), one);  // of a negative x the smallest, too
            *magnitude = floats_of(key);
        }
        // Exponents 96 .. 127; set upper bits make the other bytes zero.
        const __m256i exponent = (shift_right<23>(key) | U32x8(0x80808000u)).v;
        const auto in = [&](const uint8_t *table) {
            return _mm256_castsi256_ps(_mm256_shuffle_epi8(
                _mm256_load_si256(reinterpret_cast<const __m256i *>(table)), exponent));
        };
        const __m256 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 27));
        const __m256i lower =
            _mm256_castps_si256(_mm256_blendv_ps(in(lower_[0]), in(lower_[1]), is_upper));
        const __m256i border = _mm256_permutevar8x32_epi32(
            _mm256_load_si256(reinterpret_cast<const __m256i *>(border_)), lower);
        return U32x8(_mm256_sub_epi32(lower, _mm256_cmpgt_epi32(key.v, border)));
    }

    alignas(32) uint8_t lower_[2][32] = {};
    alignas(32) int32_t border_[8] = {};
};

// 64 codes of a dynamic map, from the upper bytes of eight vectors of indices.
template <bool kSigned>
class CodeBytes {
  public:
    TARPON_INLINE void set(int i, F32x8 x, U32x8 index) {
        word_[i] = shift_right<24>(kSigned ? index : index - U32x8(1u << 24));
        if constexpr (kSigned) {
            const __m256i negative = _mm256_srai_epi32(bits_of(x).v, 31);  // all ones or zeros
            word_[i] = U32x8(_mm256_sub_epi32(_mm256_xor_si256(word_[i].v, negative), negative));
        }
    }
    // Signed: zero_code plus or minus the index, by the sign of x; not below 0. Unsigned: the index
    // less one, modulo 256.
    TARPON_INLINE void store(int zero_code, uint8_t *codes) const {
        const U32x8 zero(kSigned ? static_cast<uint32_t>(zero_code) : 0u);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        repeat<2>([&](auto half) TARPON_INLINE {
            const U32x8 *word = word_ + 4 * half;
            const __m256i low = _mm256_packus_epi32((word[0] + zero).v, (word[1] + zero).v);
            const __m256i high = _mm256_packus_epi32((word[2] + zero).v, (word[3] + zero).v);
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(codes + 32 * half),
                                _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
        });
    }

  private:
    U32x8 word_[8];
};

// A table of 256 floats.
struct Table256 {
    alignas(32) float value[256];

    constexpr explicit Table256(const float *values) : value() {
        std::copy(values, values + 256, value);
    }
};

// 64 entries of the table times factor.
TARPON_INLINE inline void look_up_64(const float *table, uint8_t mask, const uint8_t *codes,
                                     F32x8 factor, F32x8 *out) {
    repeat<8>([&](auto i) TARPON_INLINE {
        const U32x8 index = U32x8::load_bytes(codes + 8 * i) & U32x8(mask);
        out[i] = F32x8(_mm256_i32gather_ps(table, index.v, 4)) * factor;
    });
}

// The same for a table of 128 entries, with the codes' upper bits ignored.
TARPON_INLINE inline void look_up_64_of_128(const Table256 &table, const uint8_t *codes,
                                            F32x8 factor, F32x8 *out) {
    look_up_64(table.value, 127, codes, factor, out);
}

// 64 values of a map times factor.
TARPON_INLINE inline void decode_64(optim::MapKind kind, const uint8_t *codes, F32x8 factor,
                                    F32x8 *out) {
    look_up_64(optim::code_map(kind).value, 255, codes, factor, out);
}

}  // namespace
}  // namespace tarpon::cpu
