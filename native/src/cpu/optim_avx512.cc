// The optimizers for AVX-512 with VBMI, sixteen floats at a time.
#include "cpu/optim_lanes_avx512.h"

#include "cpu/optim_kernel.h"
#include "optim/rules.h"

namespace tarpon::cpu {
namespace {

#include "cpu/optim_block.inl.h"

struct Avx512Lanes {
    using F = F32x16;
    static constexpr int kWidth = 16;

    static F load(const float *p) { return F(_mm512_loadu_ps(p)); }
    static void store(float *p, F x) { _mm512_storeu_ps(p, x.v); }

    static __mmask16 lanes_left(int64_t left) {
        return static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
    }

    static void widen(const half_t *source, int64_t n, float *out) {
        for (int64_t i = 0; i < n; i += 16) {
            const __m256i bits = _mm256_maskz_loadu_epi16(lanes_left(n - i), source + i);
            _mm512_storeu_ps(out + i, _mm512_cvtph_ps(bits));
        }
    }
    static void widen(const bf16_t *source, int64_t n, float *out) {
        for (int64_t i = 0; i < n; i += 16) {
            const __m256i bits = _mm256_maskz_loadu_epi16(lanes_left(n - i), source + i);
            _mm512_storeu_si512(out + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
        }
    }
    static void narrow(const float *source, int64_t n, half_t *out) {
        for (int64_t i = 0; i < n; i += 16) {
            const __mmask16 mask = lanes_left(n - i);
            const __m512 x = _mm512_maskz_loadu_ps(mask, source + i);
            const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
            const __m256i bits = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
            _mm256_mask_storeu_epi16(out + i, mask,
                                     _mm256_mask_mov_epi16(bits, nan, _mm256_set1_epi16(0x7fff)));
        }
    }
    static void narrow(const float *source, int64_t n, bf16_t *out) {
        for (int64_t i = 0; i < n; i += 16) {
            const __mmask16 mask = lanes_left(n - i);
            const __m512 x = _mm512_maskz_loadu_ps(mask, source + i);
            const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
            const __m512i bits = _mm512_castps_si512(x);
            const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
            const __m512i rounded = _mm512_srli_epi32(
                _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
            _mm256_mask_storeu_epi16(out + i, mask,
                                     _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(
                                         rounded, nan, _mm512_set1_epi32(0x7fff))));
        }
    }

    [[gnu::always_inline]] static void decode(const CodeMap &map, const uint8_t *codes, int64_t n,
                                              float factor, float *out) {
        decode_avx512(map, codes, n, factor, out);
    }
    [[gnu::always_inline]] static void encode(const CodeMap &map, const float *values, int64_t n,
                                              float factor, uint8_t *codes) {
        encode_avx512(map, values, n, factor, codes);
    }

    struct Key {
        __m512i v = _mm512_setzero_si512();
    };
    static Key larger_key(Key key, F x) {
        return {_mm512_max_epu32(key.v, _mm512_castps_si512(_mm512_abs_ps(x.v)))};
    }
    static uint32_t largest_of(Key key) { return _mm512_reduce_max_epu32(key.v); }

    static uint32_t largest_key(const float *values, int64_t n) {
        __m512i largest = _mm512_setzero_si512();
        const __m512i mask = _mm512_set1_epi32(0x7fffffff);
        for (int64_t i = 0; i < n; i += 16) {
            largest =
                _mm512_max_epu32(largest, _mm512_and_si512(mask, _mm512_loadu_si512(values + i)));
        }
        return _mm512_reduce_max_epu32(largest);
    }
    class Sum {
      public:
        void add(int64_t, F x) {
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
};

constexpr OptimKernel kKernel = make_kernel<Avx512Lanes>();

}  // namespace

const OptimKernel &avx512_optim_kernel() {
    return kKernel;
}

}  // namespace tarpon::cpu
