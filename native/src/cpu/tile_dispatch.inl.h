// One tile, for the AVX-512 files: from its shape to the kernel compiled for it, and from its totals
// to y. In an anonymous namespace, see linear_kernel.h.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

// 6 x 4 sums, 4 weights and an activation fit the 32 registers.
constexpr int kTileRows = 6;

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

// Kernel::multiply<rows, vectors> adds the products to totals [rows][vectors * 16]; they are stored
// to y as T.
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
    const float *total = totals;
    for (int r = 0; r < t.rows; ++r) {
        for (int v = 0; v < t.vectors; ++v, total += kLanes) {
            T::store(t.y, r * t.y_stride_elems + v * kLanes, lane_mask(t.columns - v * kLanes),
                     _mm512_load_ps(total));
        }
    }
}

}  // namespace
}  // namespace tarpon::cpu
