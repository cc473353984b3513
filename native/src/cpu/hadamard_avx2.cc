// The Hadamard transform in AVX2 with F16C.
#include <immintrin.h>

#include "cpu/hadamard.inl.h"

namespace tarpon::cpu {
namespace {

// Elements as bits: types.h holds inline functions, which must not be compiled for AVX2 here.
struct Half {
    uint16_t bits;
};
struct Bfloat {
    uint16_t bits;
};

struct Avx2Vector {
    using Reg = __m256;
    static constexpr int kLanes = 8;
    static constexpr int kRadix = 8;  // of 16 registers

    static Reg load(const float *p) { return _mm256_loadu_ps(p); }
    static Reg load(const Half *p) { return _mm256_cvtph_ps(load_words(p)); }
    static Reg load(const Bfloat *p) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_words(p)), 16));
    }
    static void store(float *p, Reg v) { _mm256_storeu_ps(p, v); }
    static void store(Half *p, Reg v) {
        store_words(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    static void store(Bfloat *p, Reg v) {
        const __m256i x = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
        const __m256i rounded = _mm256_srli_epi32(
            _mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m256i words = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fff), nan);
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
        store_words(p, _mm256_castsi256_si128(packed));
    }

    template <class T>
    static Reg load(const T *p, int count) {
        T whole[kLanes] = {};
        for (int i = 0; i < count; ++i)
            whole[i] = p[i];
        return load(whole);
    }
    template <class T>
    static void store(T *p, Reg v, int count) {
        T whole[kLanes];
        store(whole, v);
        for (int i = 0; i < count; ++i)
            p[i] = whole[i];
    }

    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg mul(Reg a, float b) { return _mm256_mul_ps(a, _mm256_set1_ps(b)); }

    // One FMA with +-1, which is exact, does both halves of the butterflies.
    template <int kStride>
    static Reg butterfly(Reg v) {
        if constexpr (kStride == 1) {
            const Reg sign = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
            return _mm256_fmadd_ps(v, sign, _mm256_permute_ps(v, 0xb1));
        } else if constexpr (kStride == 2) {
            const Reg sign = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
            return _mm256_fmadd_ps(v, sign, _mm256_permute_ps(v, 0x4e));
        } else {
            static_assert(kStride == 4);
            const Reg sign = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
            return _mm256_fmadd_ps(v, sign, _mm256_permute2f128_ps(v, v, 0x01));
        }
    }

  private:
    static __m128i load_words(const void *p) {
        return _mm_loadu_si128(static_cast<const __m128i *>(p));
    }
    static void store_words(void *p, __m128i words) {
        _mm_storeu_si128(static_cast<__m128i *>(p), words);
    }
};

}  // namespace

const HadamardKernels kAvx2Hadamard{{Hadamard<Avx2Vector, float>::run,
                                     Hadamard<Avx2Vector, Half>::run,
                                     Hadamard<Avx2Vector, Bfloat>::run}};

}  // namespace tarpon::cpu
