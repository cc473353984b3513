// The Hadamard transform in AVX-512 F/BW/DQ/VL.
#include <immintrin.h>

#include "cpu/hadamard.inl.h"

namespace tarpon::cpu {
namespace {

// Elements as bits: types.h holds inline functions, which must not be compiled for AVX-512 here.
struct Half {
    uint16_t bits;
};
struct Bfloat {
    uint16_t bits;
};

struct Avx512Vector {
    using Reg = __m512;
    static constexpr int kLanes = 16;
    static constexpr int kRadix = 16;  // of 32 registers

    static Reg load(const float *p, int count = kLanes) {
        return _mm512_maskz_loadu_ps(mask(count), p);
    }
    static Reg load(const Half *p, int count = kLanes) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(count), p));
    }
    static Reg load(const Bfloat *p, int count = kLanes) {
        const __m256i words = _mm256_maskz_loadu_epi16(mask(count), p);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
    }
    static void store(float *p, Reg v, int count = kLanes) {
        _mm512_mask_storeu_ps(p, mask(count), v);
    }
    static void store(Half *p, Reg v, int count = kLanes) {
        const __m256i words = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(p, mask(count), words);
    }
    static void store(Bfloat *p, Reg v, int count = kLanes) {
        const __m512i x = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_srli_epi32(
            _mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m512i words = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fff));
        _mm256_mask_storeu_epi16(p, mask(count), _mm512_cvtepi32_epi16(words));
    }

    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg mul(Reg a, float b) { return _mm512_mul_ps(a, _mm512_set1_ps(b)); }

    // One FMA with +-1, which is exact, does both halves of the butterflies.
    template <int kStride>
    static Reg butterfly(Reg v) {
        const Reg one = _mm512_set1_ps(1.0f);
        if constexpr (kStride == 1) {
            return _mm512_fmadd_ps(v, minus(0xaaaa, one), _mm512_permute_ps(v, 0xb1));
        } else if constexpr (kStride == 2) {
            return _mm512_fmadd_ps(v, minus(0xcccc, one), _mm512_permute_ps(v, 0x4e));
        } else if constexpr (kStride == 4) {
            return _mm512_fmadd_ps(v, minus(0xf0f0, one), _mm512_shuffle_f32x4(v, v, 0xb1));
        } else {
            static_assert(kStride == 8);
            return _mm512_fmadd_ps(v, minus(0xff00, one), _mm512_shuffle_f32x4(v, v, 0x4e));
        }
    }

  private:
    static __mmask16 mask(int count) { return static_cast<__mmask16>((1u << count) - 1); }
    static Reg minus(__mmask16 lanes, Reg one) {
        return _mm512_mask_sub_ps(one, lanes, _mm512_setzero_ps(), one);
    }
};

}  // namespace

const HadamardKernels kAvx512Hadamard{{Hadamard<Avx512Vector, float>::run,
                                       Hadamard<Avx512Vector, Half>::run,
                                       Hadamard<Avx512Vector, Bfloat>::run}};

}  // namespace tarpon::cpu
