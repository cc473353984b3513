// How tiles cut a problem: stage tiles, columns, and the slices of deterministic launches. Plain
// host C++.
//
// Callers: select.h, launch.cu, tests.
#pragma once

#include "w4_gemm/config.h"

namespace tarpon::w4_gemm {

struct Problem {
    int64_t m, n, k;
    int64_t groups;  // 1: one scale a column
    FormatId format = FormatId::kInt4Symmetric;
    // Row i of y has the same bits whatever m is.
    bool deterministic = false;
};

constexpr bool is_grouped(FormatId format, int64_t groups) {
    return groups > 1 || !traits(format).ungrouped;
}

constexpr const TileShape &tile_shape(FormatId format, bool grouped, int tile) {
    return detail::kShapes[static_cast<size_t>(format)][grouped][static_cast<size_t>(tile)];
}
constexpr const TileShape &tile_shape(const Problem &problem, int tile) {
    return tile_shape(problem.format, is_grouped(problem.format, problem.groups), tile);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Deterministic launches use the tiles with one warp along K, all of BLOCK_K = 32 and
// BLOCK_N = 256. There an element of y is the sum of slices of K, in their order, and a slice the
// sum of its slabs, in their order: neither the rows of the tile nor the stripes change it.
inline constexpr int kSliceBlockK = 32, kSliceBlockN = 256;

constexpr bool is_sliced(const TileShape &tile) {
    return tile.block_k == kSliceBlockK && tile.block_n == kSliceBlockN && tile.warps_k == 1;
}

// Stage tiles of a slice: a function of the weights' shape alone. As many slices as make 128 CTAs
// of few rows, one for each SM of a large device, but none shorter than 8 tiles and no more than 8,
// whose sums one CTA adds. (By the model 108 would suit an A100 better and an H200 worse; 256 makes
// two waves on some.)
constexpr int64_t slice_tiles(int64_t n, int64_t k) {
    constexpr int64_t kCtas = 128, kMinTiles = 8, kMaxSlices = 8;
    const int64_t k_tiles = ceil_div(k, kSliceBlockK);
    const int64_t slices =
        std::min({kCtas / ceil_div(n, kSliceBlockN), k_tiles / kMinTiles, kMaxSlices});
    return ceil_div(k_tiles, std::max<int64_t>(slices, 1));
}

struct Partition {
    int64_t k_tiles, columns;  // a column is the run of k_tiles stage tiles of one block of y
    int64_t run_tiles;         // of a column that are summed as one: k_tiles, or a slice's
    constexpr int64_t total() const { return k_tiles * columns; }
};

constexpr Partition partition(const Problem &problem, const TileShape &tile) {
    Partition out{ceil_div(problem.k, tile.block_k),
                  ceil_div(problem.m, tile.block_m) * ceil_div(problem.n, tile.block_n), 0};
    out.run_tiles = out.k_tiles;
    if (problem.deterministic) {
        // Slices are equally long; what they exceed K by is tiles of zeros.
        out.run_tiles = slice_tiles(problem.n, problem.k);
        out.k_tiles = ceil_div(out.k_tiles, out.run_tiles) * out.run_tiles;
    }
    return out;
}

}  // namespace tarpon::w4_gemm
