// What the sm80 kernel works on, and the way from global to shared memory: parameters, pipeline
// stages, the work list, and the copies that fill a stage.
//
// Included by the other sm80_*.cuh; sm80.cuh has the kernel.
#pragma once

#include "common/launch.cuh"
#include "common/layout.h"
#include "common/ptx.cuh"
#include "common/ticket.h"
#include "w4_gemm/config.h"
#include "w4_gemm/pack.h"
#include "w4_gemm/sparse_pack.h"

namespace tarpon::w4_gemm {

// What one lane moves with one access.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
    T v[kCount];
};
using Words = Pack<uint32_t, 4>;
using Floats = Pack<float, 4>;

struct Params {
    const void *x;              // T [m, k]
    const int32_t *gather;      // [k]: row i of W takes column gather[i] of x; null: column i
    const Words *qweight;       // [k_units, n_units, kBits / 4, 32 lanes] (prepare.h)
    const void *scales;         // Format::Scale [groups, 64 * n_units]; grouped configs only
    const Words *metadata;      // [k_units, n_units, 16] (sparse_pack.h); sparse formats only
    const uint8_t *zeros;       // [groups, 64 * n_units]; formats with zero points only
    const float *column_scale;  // [64 * n_units]: factors of the finished sums
    const float *bias;          // [64 * n_units], or null
    const void *residual;       // T [m, n], or null; may be y
    void *y;                    // T [m, n]
    Ticket *flags;              // [grid]: a stripe whose partial sums are there has the ticket
    Floats *partials;           // [grid, BLOCK_M * BLOCK_N / 4], in fragment order
    Ticket ticket;
    int total_tiles, stripe_tiles;
    int m, n, k;
    int k_units, n_units;  // of kUnitRows rows and of 64 columns
    int k_tiles, m_blocks;
    int run_tiles;              // of a column that are summed as one: k_tiles, or a slice's
    int groups, group_shift;    // log2 of the rows that share a scale; grouped configs only
    bool x_vectors, y_vectors;  // rows of x; of y and residual; begin at multiples of 16 bytes
};

// One pipeline stage: what a CTA needs for BLOCK_K rows of W.
template <class Config, class T>
struct alignas(128) Stage {
    T x[Config::kBlockM * Config::kBlockK];  // rows of x, 16-byte chunks swizzled
    Words qweight[Config::kBlockK / Config::kUnitRows][Config::kBlockN / kUnitN]
                 [Config::Format::kBits / 4][32];
    Words metadata[Config::kMetadataBytes / 16];
    typename Config::Format::Scale scales[Config::kScaleRows][Config::kScaleColumns];
    uint8_t zeros[Config::kZeroRows][Config::kZeroColumns];
};

template <class Config, class T>
struct SharedStorage {
    Stage<Config, T> stages[Config::kStages];
    // Half of the warps' accumulators of 16 rows (sum_slabs); later one y tile a warp (store_y).
    union alignas(128) Exchange {
        Floats sums[Config::kWarpsK > 1 ? Config::kWarps / 2 : 1][Config::kTilesAcc][32];
        float tiles[Config::kWarpsN][Config::kTileRows * Config::kTileRowFloats];
    } exchange;
};

TARPON_DEVICE int smaller(int a, int b) {
    return a < b ? a : b;
}

// A block of y, and the place in its run of stage tiles down K. The work list runs down K, then
// through the blocks of rows (so that CTAs side by side share weights in the L2), then along N.
struct Cursor {
    int k_tile, m_block, n_tile;

    TARPON_DEVICE Cursor(const Params &p, int tile)
        : k_tile(tile % p.k_tiles),
          m_block(tile / p.k_tiles % p.m_blocks),
          n_tile(tile / p.k_tiles / p.m_blocks) {}

    TARPON_DEVICE void advance(const Params &p) {
        if (++k_tile < p.k_tiles) return;
        k_tile = 0;
        if (++m_block < p.m_blocks) return;
        m_block = 0;
        ++n_tile;
    }
};

// The tiles [begin, end) of the work list that a CTA computes.
struct Stripe {
    int number, begin, end;
};

template <class Config>
TARPON_DEVICE int warp_n() {
    return ptx::warp_id() % Config::kWarpsN;
}
template <class Config>
TARPON_DEVICE int warp_k() {
    return ptx::warp_id() / Config::kWarpsN;
}

// ---- Global to shared memory --------------------------------------------------------------------

// Eight elements of a row of x whose addresses allow no vector access: k is the first of the eight
// inputs of W, `valid` how many there are; the others are zero (and read where the row begins, since
// branches would keep the loads from overlapping).
template <class T>
TARPON_DEVICE void copy_elements(T *smem, const T *row, const int32_t *gather, int k, int valid) {
    int column[8];
    TARPON_UNROLL
    for (int i = 0; i < 8; ++i)
        column[i] = i < valid ? k + i : 0;
    if (gather) {
        TARPON_UNROLL
        for (int i = 0; i < 8; ++i)
            column[i] = ptx::ld_global_nc(gather + column[i]);
    }
    Pack<T, 8> chunk;
    TARPON_UNROLL
    for (int i = 0; i < 8; ++i) {
        const T element = ptx::ld_global(row + column[i]);
        chunk.v[i] = i < valid ? element : T{0};
    }
    ptx::st_shared(reinterpret_cast<Pack<T, 8> *>(smem), chunk);
}

// Rows beyond m and columns beyond k become zero, and with them every product they are part of.
template <class Config, class T>
TARPON_DEVICE void load_x(T *smem, const Params &p, const Cursor &at) {
    constexpr int kChunksPerRow = Config::kBlockK / 8;
    constexpr int kChunks = Config::kBlockM * kChunksPerRow;
    TARPON_UNROLL
    for (int begin = 0; begin < kChunks; begin += Config::kThreads) {
        const int i = begin + ptx::thread_idx();
        if (i >= kChunks) break;
        const int row = i / kChunksPerRow, chunk = i % kChunksPerRow;
        const int m = at.m_block * Config::kBlockM + row;
        const int k = at.k_tile * Config::kBlockK + 8 * chunk;
        const int valid = m < p.m && k < p.k ? p.k - k : 0;
        const T *src = static_cast<const T *>(p.x) + (valid > 0 ? int64_t(m) * p.k : 0);
        T *dst =
            smem + 8 * (row * kChunksPerRow + layout::swizzle_chunk<kChunksPerRow>(row, chunk));
        if (p.x_vectors) {
            ptx::cp_async_16(dst, src + (valid > 0 ? k : 0), valid > 0 ? 16 : 0);
        } else {
            copy_elements(dst, src, p.gather, k, valid);
        }
    }
}

// Units beyond W's end are filled with zero bytes: finite weights that meet zeros of x, or columns
// that are not stored.
template <class Config, class T>
TARPON_DEVICE void load_weights(Stage<Config, T> &stage, const Params &p, const Cursor &at,
                                uint64_t evict_first) {
    constexpr int kUnitsK = Config::kBlockK / Config::kUnitRows, kUnitsN = Config::kBlockN / kUnitN;
    constexpr int kParts = Config::Format::kBits / 4;  // of a unit, 16 bytes a lane each
    constexpr int kRuns = kUnitsK * kUnitsN * kParts;  // of 32 lanes
    TARPON_UNROLL
    for (int begin = 0; begin < kRuns; begin += Config::kWarps) {
        const int i = begin + ptx::warp_id();
        if (kRuns % Config::kWarps != 0 && i >= kRuns) break;
        const int part = i % kParts, in_n = i / kParts % kUnitsN, in_k = i / kParts / kUnitsN;
        const int unit_k = at.k_tile * kUnitsK + in_k;
        const int unit_n = at.n_tile * kUnitsN + in_n;
        const bool valid = unit_k < p.k_units && unit_n < p.n_units;
        const int64_t unit = valid ? int64_t(unit_k) * p.n_units + unit_n : 0;
        ptx::cp_async_16_hint(&stage.qweight[in_k][in_n][part][ptx::lane_id()],
                              p.qweight + 32 * (kParts * unit + part) + ptx::lane_id(),
                              valid ? 16 : 0, evict_first);
    }
}

// The metadata of sparse weights. Units beyond W's end take that of the first one: places must be
// in increasing order, which zeros are not.
template <class Config, class T>
TARPON_DEVICE void load_metadata(Stage<Config, T> &stage, const Params &p, const Cursor &at) {
    constexpr int kUnitsK = Config::kBlockK / Config::kUnitRows, kUnitsN = Config::kBlockN / kUnitN;
    constexpr int kUnitChunks = 32 * kMetadataWords * 4 / 16;
    static_assert(sizeof(stage.metadata) == kUnitsK * kUnitsN * kUnitChunks * 16);
    TARPON_UNROLL
    for (int begin = 0; begin < kUnitsK * kUnitsN * kUnitChunks; begin += Config::kThreads) {
        const int i = begin + ptx::thread_idx();
        if (i >= kUnitsK * kUnitsN * kUnitChunks) break;
        const int chunk = i % kUnitChunks, in_unit = i / kUnitChunks;
        const int unit_k = at.k_tile * kUnitsK + in_unit / kUnitsN;
        const int unit_n = at.n_tile * kUnitsN + in_unit % kUnitsN;
        const bool valid = unit_k < p.k_units && unit_n < p.n_units;
        const int64_t unit = valid ? int64_t(unit_k) * p.n_units + unit_n : 0;
        ptx::cp_async_16(&stage.metadata[i], p.metadata + kUnitChunks * unit + chunk, 16);
    }
}

// What is stored for every group and column (scales, zero points), of the groups that begin in or
// reach into the tile; zero beyond W's end.
template <class Config, class V, int kRows>
TARPON_DEVICE void load_group_rows(V (&smem)[kRows][Config::kBlockN], const V *gmem,
                                   const Params &p, const Cursor &at) {
    constexpr int kElems = 16 / sizeof(V);  // of one copy
    constexpr int kChunksPerRow = Config::kBlockN / kElems;
    static_assert(kRows * kChunksPerRow <= Config::kThreads);
    const int rows = Config::kBlockK >> p.group_shift;  // 0: the group is larger than the tile
    const int row = ptx::thread_idx() / kChunksPerRow, chunk = ptx::thread_idx() % kChunksPerRow;
    if (row >= (rows > 1 ? rows : 1)) return;
    const int group = (at.k_tile * Config::kBlockK >> p.group_shift) + row;
    const int column = at.n_tile * Config::kBlockN + kElems * chunk;
    const int columns = 64 * p.n_units;
    const bool valid = group < p.groups && column < columns;
    ptx::cp_async_16(&smem[row][kElems * chunk],
                     gmem + (valid ? int64_t(group) * columns + column : 0), valid ? 16 : 0);
}

template <class Config, class T>
TARPON_DEVICE void load_stage(Stage<Config, T> &stage, const Params &p, const Cursor &at,
                              uint64_t evict_first) {
    using Scale = typename Config::Format::Scale;
    load_weights(stage, p, at, evict_first);
    if constexpr (Config::kSparse) load_metadata(stage, p, at);
    load_x<Config>(stage.x, p, at);
    if constexpr (Config::kGrouped) {
        load_group_rows<Config>(stage.scales, static_cast<const Scale *>(p.scales), p, at);
    }
    if constexpr (Config::Format::kZeros) load_group_rows<Config>(stage.zeros, p.zeros, p, at);
}

}  // namespace tarpon::w4_gemm
