// Loads and stores of activations in AVX-512: 16 values as binary32, whatever their type in memory.
// Included by the files compiled for AVX-512; in an anonymous namespace, see linear_kernel.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tarpon::cpu {
namespace {

struct F32 {
    using Bits = float;
    static constexpr int kBytes = 4;
    static __m512 load(const void *x, int64_t i, __mmask16 mask) {
        return _mm512_maskz_loadu_ps(mask, static_cast<const float *>(x) + i);
    }
    static void store(void *y, int64_t i, __mmask16 mask, __m512 v) {
        _mm512_mask_storeu_ps(static_cast<float *>(y) + i, mask, v);
    }
};

struct F16 {
    using Bits = uint16_t;
    static constexpr int kBytes = 2;
    static __m512 load(const void *x, int64_t i, __mmask16 mask) {
        return _mm512_cvtph_ps(
            _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(x) + i));
    }
    static void store(void *y, int64_t i, __mmask16 mask, __m512 v) {
        _mm256_mask_storeu_epi16(static_cast<uint16_t *>(y) + i, mask,
                                 _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
};

struct Bf16 {
    using Bits = uint16_t;
    static constexpr int kBytes = 2;
    static __m512 load(const void *x, int64_t i, __mmask16 mask) {
        const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(x) + i);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    // In integers and not by vcvtneps2bf16, which flushes subnormals: equal on every processor.
    static void store(void *y, int64_t i, __mmask16 mask, __m512 v) {
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded =
            _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
        const __m512i result = _mm512_mask_mov_epi32(rounded, nan, quiet);
        _mm256_mask_storeu_epi16(static_cast<uint16_t *>(y) + i, mask,
                                 _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16)));
    }
};

// The first `count` of 16 lanes.
inline __mmask16 lane_mask(int64_t count) {
    if (count >= 16) return 0xffff;
    return count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

}  // namespace
}  // namespace tarpon::cpu
