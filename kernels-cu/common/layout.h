// Fragment maps, permutations and swizzles as constexpr functions: the one truth that packers,
// kernels, reference code and the simulator share. Plain C++; checked against hand-typed tables of
// the PTX ISA manual in common/test/layout_test.cc.
#pragma once

#include "common/types.h"

#ifdef __CUDACC__
#define TARPON_LAYOUT __host__ __device__ constexpr
#else
#define TARPON_LAYOUT constexpr
#endif

namespace tarpon::layout {

inline constexpr int kWarpLanes = 32;

struct Coord {
    int row, col;
    constexpr bool operator==(const Coord &) const = default;
};

// mma.m16n8k16 with 16-bit A and B and 32-bit accumulators (PTX ISA, "Matrix Fragments for
// mma.m16n8k16 with floating point type"). A lane belongs to the group lane/4 (a row of A and C, a
// column of B) and is number lane%4 in it (a pair of columns of A and C, a pair of rows of B).
struct MmaM16N8K16 {
    static constexpr int kM = 16, kN = 8, kK = 16;
    static constexpr int kRegsA = 4, kRegsB = 2, kRegsC = 4;

    // (m, k) of half `half` (0 = low) of A register `reg`.
    static TARPON_LAYOUT Coord a(int lane, int reg, int half) {
        return {lane / 4 + 8 * (reg % 2), 2 * (lane % 4) + half + 8 * (reg / 2)};
    }
    // (k, n) of half `half` of B register `reg`.
    static TARPON_LAYOUT Coord b(int lane, int reg, int half) {
        return {2 * (lane % 4) + half + 8 * reg, lane / 4};
    }
    // (m, n) of accumulator `reg`.
    static TARPON_LAYOUT Coord c(int lane, int reg) {
        return {lane / 4 + 8 * (reg / 2), 2 * (lane % 4) + reg % 2};
    }
};

// ldmatrix: 8x8 matrices of 16-bit elements. Lane 8*j + r supplies the address of row r of matrix
// j; register j of a lane receives two elements of matrix j.
struct Ldmatrix {
    // (row, column) of what half `half` (0 = low) of a result register holds.
    static TARPON_LAYOUT Coord element(int lane, int half) {
        return {lane / 4, 2 * (lane % 4) + half};
    }
    // The same with .trans: the matrix arrives transposed.
    static TARPON_LAYOUT Coord element_trans(int lane, int half) {
        return {2 * (lane % 4) + half, lane / 4};
    }
    static TARPON_LAYOUT int address_lane(int matrix, int row) { return 8 * matrix + row; }
};

// Position of 16-byte chunk `chunk` of row `row` in a tile of `kChunksPerRow` chunks a row (a power
// of two), such that the eight rows of one ldmatrix matrix fall into different banks. Rows of 128
// bytes and more differ in row % 8; shorter rows share a 128-byte line, so the line number does it.
template <int kChunksPerRow>
TARPON_LAYOUT int swizzle_chunk(int row, int chunk) {
    static_assert(kChunksPerRow > 0 && (kChunksPerRow & (kChunksPerRow - 1)) == 0);
    if constexpr (kChunksPerRow >= 8) {
        return chunk ^ (row % 8);
    } else {
        return chunk ^ ((row * kChunksPerRow / 8) % kChunksPerRow);
    }
}

}  // namespace tarpon::layout
