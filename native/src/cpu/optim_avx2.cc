// The optimizers for AVX2 with FMA and F16C, eight floats at a time. Its tables are looked up by
// gathers: slower than AVX-512's permutations, several times faster than the scalar path.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/optim_kernel.h"
#include "optim/codec.h"
#include "optim/rules.h"

namespace tarpon::cpu {
namespace {

struct F32x8 {
    __m256 v;

    F32x8() = default;
    explicit F32x8(__m256 x) : v(x) {}
    explicit F32x8(float x) : v(_mm256_set1_ps(x)) {}
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

// Eight codes, and in *unsure those that may be one too near to zero; see magnitude_index() in
// maps.h.
inline __m256i dynamic_codes(const optim::CodeMap &map, __m256 x, int *unsure) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i negative = _mm256_srai_epi32(bits, 31);  // all ones or zeros
    __m256i key = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    key = _mm256_sub_epi32(key, negative);
    key = _mm256_max_epu32(key, _mm256_set1_epi32(optim::kSmallestKey));
    key = _mm256_min_epu32(key, _mm256_set1_epi32(optim::kOneKey));

    const __m256i binade =
        _mm256_and_si256(_mm256_srli_epi32(key, 23), _mm256_set1_epi32(optim::kBinades - 1));
    const __m256i limit =
        _mm256_i32gather_epi32(reinterpret_cast<const int *>(map.binade_limit), binade, 4);
    __m256i piece = _mm256_i32gather_epi32(map.binade_piece, binade, 4);
    piece = _mm256_sub_epi32(piece, _mm256_cmpgt_epi32(key, limit));
    const __m256 linear =
        _mm256_fmadd_ps(_mm256_castsi256_ps(key), _mm256_i32gather_ps(map.piece_scale, piece, 4),
                        _mm256_i32gather_ps(map.piece_offset, piece, 4));
    const __m256 guess = _mm256_min_ps(linear, _mm256_i32gather_ps(map.piece_last, piece, 4));
    const __m256i k = _mm256_cvttps_epi32(guess);
    const __m256 fraction = _mm256_sub_ps(guess, _mm256_cvtepi32_ps(k));
    *unsure = _mm256_movemask_ps(
        _mm256_cmp_ps(fraction, _mm256_set1_ps(1.0f - 2 * optim::kGuessSlack), _CMP_GE_OQ));

    if (!map.is_signed) return _mm256_andnot_si256(negative, k);
    const __m256i zero = _mm256_set1_epi32(map.zero_code);
    return _mm256_blendv_epi8(_mm256_add_epi32(zero, k),
                              _mm256_sub_epi32(zero, _mm256_min_epi32(k, zero)), negative);
}

inline __m256i linear_codes(__m256 x) {
    __m256 q = _mm256_mul_ps(x, _mm256_set1_ps(127.0f));
    q = _mm256_max_ps(q, _mm256_set1_ps(-127.0f));
    q = _mm256_min_ps(q, _mm256_set1_ps(127.0f));
    return _mm256_and_si256(_mm256_cvtps_epi32(q), _mm256_set1_epi32(255));
}

inline __m256i e4m3_codes(__m256 x) {
    const __m256i bits = _mm256_castps_si256(_mm256_mul_ps(x, _mm256_set1_ps(448.0f)));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(bits, 31), 7);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
    __m256i code = _mm256_srli_epi32(
        _mm256_add_epi32(magnitude, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff))), 20);
    code = _mm256_sub_epi32(code, _mm256_set1_epi32(120 << 3));
    code = _mm256_min_epu32(code, _mm256_set1_epi32(126));
    const __m256i subnormal =
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p9f)));
    const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), magnitude);
    return _mm256_or_si256(sign, _mm256_blendv_epi8(code, subnormal, small));
}

inline __m256i normal_float4_codes(const optim::CodeMap &map, __m256 x) {
    __m256i code = _mm256_setzero_si256();
    for (int i = 0; i < 15; ++i) {
        const __m256 midpoint = _mm256_castsi256_ps(_mm256_set1_epi32(int(map.midpoint[i])));
        code = _mm256_sub_epi32(code, _mm256_castps_si256(_mm256_cmp_ps(x, midpoint, _CMP_GT_OQ)));
    }
    return code;
}

inline void store_bytes(uint8_t *out, __m256i words) {
    const __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(out), _mm_packus_epi16(halves, halves));
}

#include "cpu/optim_block.inl.h"

struct Avx2Lanes {
    using F = F32x8;
    static constexpr int kWidth = 8;

    static F load(const float *p) { return F(_mm256_loadu_ps(p)); }
    static void store(float *p, F x) { _mm256_storeu_ps(p, x.v); }

    static void widen(const half_t *source, int64_t n, float *out) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            const auto *p = reinterpret_cast<const __m128i *>(source + i);
            _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(p)));
        }
        for (; i < n; ++i)
            out[i] = to_float(source[i]);
    }
    static void widen(const bf16_t *source, int64_t n, float *out) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            const auto *p = reinterpret_cast<const __m128i *>(source + i);
            const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
            _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(words, 16)));
        }
        for (; i < n; ++i)
            out[i] = to_float(source[i]);
    }
    static void narrow(const float *source, int64_t n, half_t *out) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            const __m256 x = _mm256_loadu_ps(source + i);
            const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
            const __m128i nan_words =
                _mm_packs_epi32(_mm256_castsi256_si128(nan), _mm256_extracti128_si256(nan, 1));
            const __m128i bits = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
            _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i),
                             _mm_blendv_epi8(bits, _mm_set1_epi16(0x7fff), nan_words));
        }
        for (; i < n; ++i)
            out[i] = from_float<half_t>(source[i]);
    }
    static void narrow(const float *source, int64_t n, bf16_t *out) {
        int64_t i = 0;
        for (; i + 8 <= n; i += 8) {
            const __m256 x = _mm256_loadu_ps(source + i);
            const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
            const __m256i bits = _mm256_castps_si256(x);
            const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
            __m256i rounded = _mm256_srli_epi32(
                _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
            rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fff), nan);
            _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i),
                             _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                              _mm256_extracti128_si256(rounded, 1)));
        }
        for (; i < n; ++i)
            out[i] = from_float<bf16_t>(source[i]);
    }

    static void decode(const CodeMap &map, const uint8_t *codes, int64_t n, float factor,
                       float *out) {
        const __m256 factors = _mm256_set1_ps(factor);
        for (int64_t i = 0; i < n; i += 8) {
            const __m256i index =
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes + i)));
            _mm256_storeu_ps(out + i,
                             _mm256_mul_ps(_mm256_i32gather_ps(map.value, index, 4), factors));
        }
    }
    static void encode(const CodeMap &map, const float *values, int64_t n, float factor,
                       uint8_t *codes) {
        const __m256 factors = _mm256_set1_ps(factor);
        const bool linear = map.kind == MapKind::kLinear, fp8 = map.kind == MapKind::kFp8E4M3;
        const bool normal_float = map.kind == MapKind::kNormalFloat4;
        for (int64_t i = 0; i < n; i += 8) {
            const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(values + i), factors);
            int unsure = 0;
            store_bytes(codes + i, linear         ? linear_codes(x)
                                   : fp8          ? e4m3_codes(x)
                                   : normal_float ? normal_float4_codes(map, x)
                                                  : dynamic_codes(map, x, &unsure));
            for (; unsure != 0; unsure &= unsure - 1) {
                const int64_t at = i + __builtin_ctz(static_cast<unsigned>(unsure));
                codes[at] = static_cast<uint8_t>(optim::encode(map, values[at] * factor));
            }
        }
    }

    struct Key {
        __m256i v = _mm256_setzero_si256();
    };
    static Key larger_key(Key key, F x) {
        return {_mm256_max_epu32(key.v, _mm256_castps_si256(abs(x).v))};
    }
    static uint32_t largest_of(Key key) {
        alignas(32) uint32_t keys[8];
        _mm256_store_si256(reinterpret_cast<__m256i *>(keys), key.v);
        return *std::max_element(keys, keys + 8);
    }
    static uint32_t largest_key(const float *values, int64_t n) {
        Key largest;
        for (int64_t i = 0; i < n; i += 8)
            largest = larger_key(largest, load(values + i));
        return largest_of(largest);
    }
    class Sum {
      public:
        void add(int64_t i, F x) {
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
};

constexpr OptimKernel kKernel = make_kernel<Avx2Lanes>();

}  // namespace

const OptimKernel &avx2_optim_kernel() {
    return kKernel;
}

}  // namespace tarpon::cpu
