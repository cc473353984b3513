// From the shape of a tile to the kernel compiled for it. Included by the AVX-512 files; in an
// anonymous namespace, see linear_kernel.h.
#pragma once

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

// 6 x 4 sums, 4 weights and an activation fit the 32 registers.
constexpr int kTileRows = 6;

template <class Kernel, int kVectors>
void dispatch_rows(const TileArgs &t) {
    switch (t.rows) {
        case 1:
            return Kernel::template multiply<1, kVectors>(t);
        case 2:
            return Kernel::template multiply<2, kVectors>(t);
        case 3:
            return Kernel::template multiply<3, kVectors>(t);
        case 4:
            return Kernel::template multiply<4, kVectors>(t);
        case 5:
            return Kernel::template multiply<5, kVectors>(t);
        default:
            return Kernel::template multiply<kTileRows, kVectors>(t);
    }
}

// Calls Kernel::multiply<rows, vectors>(t).
template <class Kernel>
void dispatch_tile(const TileArgs &t) {
    switch (t.vectors) {
        case 1:
            return dispatch_rows<Kernel, 1>(t);
        case 2:
            return dispatch_rows<Kernel, 2>(t);
        default:
            return dispatch_rows<Kernel, kMaxPanelVectors>(t);
    }
}

}  // namespace
}  // namespace tarpon::cpu
