// What the AVX2 kernels share: activations in memory, scales, and the way from totals to y. Both
// hold their totals as [row][kTotalsStride columns]. In an anonymous namespace, see
// linear_kernel.h.
#pragma once

#include <immintrin.h>

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kHalf = 8;  // columns of a register
constexpr int kTotalsStride = kMaxPanelVectors * kLanes;

// ---- Activations ------------------------------------------------------------------------------

struct F32 {
    using Bits = float;
    static float value(Bits bits) { return bits; }
    static __m256 load8(const Bits *x) { return _mm256_loadu_ps(x); }
    static void store8(Bits *y, __m256 v) { _mm256_storeu_ps(y, v); }
};

struct F16 {
    using Bits = uint16_t;
    static float value(Bits bits) { return _cvtsh_ss(bits); }
    static __m256 load8(const Bits *x) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x)));
    }
    static void store8(Bits *y, __m256 v) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(y),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
};

struct Bf16 {
    using Bits = uint16_t;
    static float value(Bits bits) { return __builtin_bit_cast(float, uint32_t{bits} << 16); }
    static __m256 load8(const Bits *x) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i *>(x));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
    static void store8(Bits *y, __m256 v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i rounded =
            _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const __m256i upper =
            _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan)), 16);
        _mm_storeu_si128(
            reinterpret_cast<__m128i *>(y),
            _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
    }
};

// ---- Scales -----------------------------------------------------------------------------------

// The scales and offsets of 8 columns in one group. kBias is that of the codes.
template <int kBias>
struct HalfScales {
    __m256 scale, offset;
    bool has_offset;

    // Of columns column..column + 7 of a panel of `width` columns.
    HalfScales(const PanelScales &s, int64_t group, int64_t width, int64_t column)
        : has_offset(s.zeros || s.offsets || s.factors.scale_codes) {
        const int64_t i = group * width + column;
        if (s.factors.scale_codes) {
            const int64_t super = group / kSuperGroups * width + column;
            scale = product(s.factors.scale_codes + i, s.factors.super_scales + super);
            const __m256 minimum =
                product(s.factors.minimum_codes + i, s.factors.super_minimums + super);
            offset = _mm256_fmadd_ps(scale, _mm256_set1_ps(kBias), minimum);
            return;
        }
        if (s.scale_type == TARPON_SCALE_F16) {
            scale = F16::load8(static_cast<const uint16_t *>(s.scales) + i);
        } else if (s.scale_type == TARPON_SCALE_BF16) {
            scale = Bf16::load8(static_cast<const uint16_t *>(s.scales) + i);
        } else {
            scale = F32::load8(static_cast<const float *>(s.scales) + i);
        }
        if (s.zeros) {
            const __m128i zeros = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(s.zeros + i));
            const __m256i zero = _mm256_cvtepu8_epi32(zeros);
            const __m256i steps = _mm256_sub_epi32(_mm256_set1_epi32(kBias), zero);
            offset = _mm256_mul_ps(_mm256_cvtepi32_ps(steps), scale);
        } else {
            offset = s.offsets ? _mm256_loadu_ps(s.offsets + i) : _mm256_setzero_ps();
        }
    }

  private:
    static __m256 product(const uint8_t *codes, const uint16_t *super) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes));
        return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), F16::load8(super));
    }
};

// Adds to total the products of one step, `sum`, and, if there are offsets, of the sum of its x.
template <class Scales>
void add_step(float *total, __m256 sum, const Scales &s, float x_sum) {
    __m256 t = _mm256_fmadd_ps(sum, s.scale, _mm256_load_ps(total));
    if (s.has_offset) t = _mm256_fmadd_ps(s.offset, _mm256_set1_ps(x_sum), t);
    _mm256_store_ps(total, t);
}

// ---- y ----------------------------------------------------------------------------------------

// Stores totals + bias + residual to y as T; at the right edge by way of buffers.
template <class T>
void store_tile(const TileArgs &t, const float *totals) {
    using Bits = typename T::Bits;
    for (int r = 0; r < t.rows; ++r) {
        for (int c = 0; c < t.columns; c += kHalf) {
            const int64_t i = r * t.y_stride_elems + c;
            const int count = t.columns - c < kHalf ? t.columns - c : kHalf;
            const auto bytes = static_cast<size_t>(count) * sizeof(Bits);
            Bits *y = static_cast<Bits *>(t.y) + i;
            __m256 v = _mm256_load_ps(totals + r * kTotalsStride + c);
            if (t.bias) v = _mm256_add_ps(v, _mm256_load_ps(t.bias + c));
            alignas(32) Bits edge[kHalf] = {};
            if (t.residual) {
                const Bits *residual = static_cast<const Bits *>(t.residual) + i;
                if (count < kHalf) {
                    __builtin_memcpy(edge, residual, bytes);
                    residual = edge;
                }
                v = _mm256_add_ps(v, T::load8(residual));
            }
            if (count == kHalf) {
                T::store8(y, v);
            } else {
                T::store8(edge, v);
                __builtin_memcpy(y, edge, bytes);
            }
        }
    }
}

}  // namespace
}  // namespace tarpon::cpu
