// What the AVX-512 kernels with int8 activations share: rounding of activations, and codes as the
// unsigned bytes that are multiplied. In an anonymous namespace, see linear_kernel.h.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kInt8HeaderWords = 2;

// ---- Activations: one row of one step ---------------------------------------------------------

struct QuantizedStep {
    float scale;
    int32_t sum;
    alignas(64) uint32_t words[2 * kStepUnits];
};

// The first `count` of the step's inputs x; the others are zeros.
template <class T>
void quantize_step(const void *x_step, int64_t count, QuantizedStep *out) {
    constexpr int kVectors = kStepRows / 16;
    __m512 x[kVectors];
    // The bits of |x| order like integers, with infinity and NaN at the top.
    __m512i top = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; ++i) {
        x[i] = T::load(x_step, 16 * i, lane_mask(count - 16 * i));
        const __m512i magnitude =
            _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fffffff));
        top = _mm512_max_epi32(top, magnitude);
    }
    const auto max_bits = static_cast<uint32_t>(_mm512_reduce_max_epi32(top));
    const float max = __builtin_bit_cast(float, max_bits);
    const bool finite = max_bits < 0x7f800000;
    // Below this 127 / max overflows; such a step counts as zeros.
    const bool zero = max < 0x1p-110f;
    const __m512 inverse = _mm512_set1_ps(finite && !zero ? 127.0f / max : 0.0f);
    out->scale = !finite ? __builtin_nanf("") : zero ? 0.0f : max / 127.0f;
    // Rows 0,4,1,5 and 2,6,3,7 of each unit, as the nibbles of the codes lie.
    const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; ++i) {
        const __m512 scaled = finite ? _mm512_mul_ps(x[i], inverse) : _mm512_setzero_ps();
        const __m512i q = _mm512_cvtps_epi32(scaled);  // to nearest even
        sum = _mm512_add_epi32(sum, q);
        _mm_store_si128(reinterpret_cast<__m128i *>(out->words + 4 * i),
                        _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(q), order));
    }
    out->sum = _mm512_reduce_add_epi32(sum);
}

// ---- Codes ------------------------------------------------------------------------------------

// The unsigned codes of 16 columns and four rows, the first or the second half of a unit's 8.
struct UnsignedInt4 {
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;
    static __m512i four(const uint8_t *unit, int half) {
        const __m512i packed = _mm512_load_si512(unit);
        return _mm512_and_si512(half ? _mm512_srli_epi16(packed, 4) : packed, _mm512_set1_epi8(15));
    }
};

struct UnsignedInt8 {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    static __m512i four(const uint8_t *unit, int half) {
        return _mm512_load_si512(unit + half * kVectorBytes);
    }
};

}  // namespace
}  // namespace tarpon::cpu
