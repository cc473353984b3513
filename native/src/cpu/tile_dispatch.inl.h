// One tile, for the AVX-512 files: from its shape to the kernel compiled for it, from a step's sums
// to totals, and from totals to y. In an anonymous namespace, see linear_kernel.h.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

// 6 x 4 sums, 4 weights and an activation fit the 32 registers.
constexpr int kTileRows = 6;

// ---- Scales -----------------------------------------------------------------------------------

// The scales and offsets of 16 columns in one group. kBias is that of the codes.
template <int kBias>
struct VectorScales {
    __m512 scale, offset;
    bool has_offset;

    // Of columns column..column + 15 of a panel of `width` columns.
    VectorScales(const PanelScales &s, int64_t group, int64_t width, int64_t column)
        : has_offset(s.zeros || s.offsets || s.factors.scale_codes) {
        const int64_t i = group * width + column;
        if (s.factors.scale_codes) {
            const int64_t super = group / kSuperGroups * width + column;
            scale = product(s.factors.scale_codes + i, s.factors.super_scales + super);
            const __m512 minimum =
                product(s.factors.minimum_codes + i, s.factors.super_minimums + super);
            offset = _mm512_fmadd_ps(scale, _mm512_set1_ps(kBias), minimum);
            return;
        }
        if (s.scale_type == TARPON_SCALE_F16) {
            scale = F16::load(s.scales, i, 0xffff);
        } else if (s.scale_type == TARPON_SCALE_BF16) {
            scale = Bf16::load(s.scales, i, 0xffff);
        } else {
            scale = F32::load(s.scales, i, 0xffff);
        }
        if (s.zeros) {
            const __m128i zeros = _mm_loadu_si128(reinterpret_cast<const __m128i *>(s.zeros + i));
            const __m512i zero = _mm512_cvtepu8_epi32(zeros);
            const __m512i steps = _mm512_sub_epi32(_mm512_set1_epi32(kBias), zero);
            offset = _mm512_mul_ps(_mm512_cvtepi32_ps(steps), scale);
        } else {
            offset = s.offsets ? _mm512_loadu_ps(s.offsets + i) : _mm512_setzero_ps();
        }
    }

  private:
    static __m512 product(const uint8_t *codes, const uint16_t *super) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(codes));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)),
                             F16::load(super, 0, 0xffff));
    }
};

// Adds to total the products of one step, `sum`, and, if there are offsets, of the sum of its x.
template <class Scales>
void add_step(float *total, __m512 sum, const Scales &s, float x_sum) {
    __m512 t = _mm512_fmadd_ps(sum, s.scale, _mm512_load_ps(total));
    if (s.has_offset) t = _mm512_fmadd_ps(s.offset, _mm512_set1_ps(x_sum), t);
    _mm512_store_ps(total, t);
}

// ---- Tiles ------------------------------------------------------------------------------------

template <class Kernel, int kVectors>
void dispatch_rows(const TileArgs &t, float *totals) {
    switch (t.rows) {
        case 1:
            return Kernel::template multiply<1, kVectors>(t, totals);
        case 2:
            return Kernel::template multiply<2, kVectors>(t, totals);
        case 3:
            return Kernel::template multiply<3, kVectors>(t, totals);
        case 4:
            return Kernel::template multiply<4, kVectors>(t, totals);
        case 5:
            return Kernel::template multiply<5, kVectors>(t, totals);
        default:
            return Kernel::template multiply<kTileRows, kVectors>(t, totals);
    }
}

// Stores totals [rows][vectors * 16] + bias + residual to y as T.
template <class T>
void store_tile(const TileArgs &t, const float *totals) {
    for (int r = 0; r < t.rows; ++r) {
        for (int v = 0; v < t.vectors; ++v, totals += kLanes) {
            const int64_t i = r * t.y_stride_elems + v * kLanes;
            const __mmask16 mask = lane_mask(t.columns - v * kLanes);
            __m512 y = _mm512_load_ps(totals);
            if (t.bias) y = _mm512_add_ps(y, _mm512_load_ps(t.bias + v * kLanes));
            if (t.residual) y = _mm512_add_ps(y, T::load(t.residual, i, mask));
            T::store(t.y, i, mask, y);
        }
    }
}

// Kernel::multiply<rows, vectors> adds the products to totals [rows][vectors * 16].
template <class Kernel, class T>
void run_tile(const TileArgs &t) {
    alignas(64) float totals[kTileRows * kMaxPanelVectors * kLanes];
    const int row_vectors = t.rows * t.vectors;
    for (int i = 0; i < row_vectors; ++i)
        _mm512_store_ps(totals + i * kLanes, _mm512_setzero_ps());
    switch (t.vectors) {
        case 1:
            dispatch_rows<Kernel, 1>(t, totals);
            break;
        case 2:
            dispatch_rows<Kernel, 2>(t, totals);
            break;
        default:
            dispatch_rows<Kernel, kMaxPanelVectors>(t, totals);
    }
    store_tile<T>(t, totals);
}

}  // namespace
}  // namespace tarpon::cpu
