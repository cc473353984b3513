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

// mma.m16n8k32 with signed bytes and 32-bit integer accumulators (PTX ISA, "Matrix Fragments for
// mma.m16n8k32"). The accumulators lie as those of m16n8k16.
struct MmaM16N8K32S8 {
    static constexpr int kM = 16, kN = 8, kK = 32;
    static constexpr int kRegsA = 4, kRegsB = 2, kRegsC = 4;

    // (m, k) of byte `byte` (0 = low) of A register `reg`.
    static TARPON_LAYOUT Coord a(int lane, int reg, int byte) {
        return {lane / 4 + 8 * (reg % 2), 4 * (lane % 4) + byte + 16 * (reg / 2)};
    }
    // (k, n) of byte `byte` of B register `reg`.
    static TARPON_LAYOUT Coord b(int lane, int reg, int byte) {
        return {4 * (lane % 4) + byte + 16 * reg, lane / 4};
    }
    static TARPON_LAYOUT Coord c(int lane, int reg) { return MmaM16N8K16::c(lane, reg); }
};

// mma.sp.m16n8k32 with 16-bit A and B (PTX ISA, "Matrix Fragments for sparse mma.m16n8k32 with
// .f16 and .bf16 types"). Of every chunk of four columns of A two are kept: A arrives as 16x16
// values, laid out as the dense A of m16n8k16, and metadata says which two they were.
struct MmaSparseM16N8K32 {
    static constexpr int kM = 16, kN = 8, kK = 32;
    static constexpr int kRegsA = 4, kRegsB = 4, kRegsC = 4;
    static constexpr int kChunks = kK / 4;  // of a row of A

    // (m, kept column) of half `half` of A register `reg`; chunk i keeps columns 2i and 2i + 1.
    static TARPON_LAYOUT Coord a(int lane, int reg, int half) {
        return MmaM16N8K16::a(lane, reg, half);
    }
    // (k, n) of half `half` of B register `reg`.
    static TARPON_LAYOUT Coord b(int lane, int reg, int half) {
        return MmaM16N8K16::b(lane, reg, half);
    }
    static TARPON_LAYOUT Coord c(int lane, int reg) { return MmaM16N8K16::c(lane, reg); }

    // Where the four metadata bits of a chunk are: the position of its first kept column in the low
    // two, of its second in the high two. `selector` (0 or 1) says which pair of each four lanes
    // gives the metadata of this multiplication.
    struct MetadataBits {
        int lane, shift;
    };
    static TARPON_LAYOUT MetadataBits metadata(int m, int chunk, int selector) {
        return {4 * (m % 8) + 2 * selector + chunk / 4, 16 * (m / 8) + 4 * (chunk % 4)};
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
