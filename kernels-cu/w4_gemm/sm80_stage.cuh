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

    TARPON_DEVICE void next_column(const Params &p) {
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

// What is stored for every group and column (scales, zero points), as one thread copies it: of the
// groups that begin in or reach into a tile, 16 bytes of one.
template <class Config, class V>
class GroupRows {
    static constexpr int kElems = 16 / sizeof(V);
    static constexpr int kChunksPerRow = Config::kBlockN / kElems;
    static_assert(Config::kScaleRows * kChunksPerRow <= Config::kThreads);

  public:
    TARPON_DEVICE void begin_column(const V *gmem, const Params &p, int n_tile) {
        const int row = ptx::thread_idx() / kChunksPerRow;
        const int chunk = ptx::thread_idx() % kChunksPerRow;
        const int rows = Config::kBlockK >> p.group_shift;  // 0: groups are larger than the tile
        const int column = n_tile * Config::kBlockN + kElems * chunk;
        const int columns = 64 * p.n_units;
        takes_part_ = row < (rows > 1 ? rows : 1);
        gmem_ = gmem + int64_t(row) * columns + column;
        end_ = (column < columns ? p.groups : 0) - row;
    }

    // Of the tile that begins at input k; zero beyond W's end. The rows of a stage follow one
    // another, so thread i writes its i-th 16 bytes.
    TARPON_DEVICE void copy(void *smem, const Params &p, int k) const {
        if (!takes_part_) return;
        const int group = k >> p.group_shift;
        ptx::cp_async_16(static_cast<unsigned char *>(smem) + 16 * ptx::thread_idx(),
                         gmem_ + int64_t(group) * (64 * p.n_units), group < end_ ? 16 : 0);
    }

  private:
    bool takes_part_;
    const V *gmem_;  // of the first groups of W
    int end_;        // the tile's first group from which on there is nothing for the thread
};

// Fills one stage after the other, along the work list. A copy is 16 bytes of one thread; where from
// is computed once a column and advances with the stages, since that is what the issue slots of a
// product of few rows go to (README.md, "Instructions and bytes").
//
// A copy of nothing fills with zeros and does not look at its address, which may then be anything:
// so zeros come where x, W or its scales end. A zero of x times a finite weight adds nothing, and
// columns that are not there are not stored.
template <class Config, class T>
class StageLoader {
    using Format = typename Config::Format;
    static constexpr int kUnitsK = Config::kBlockK / Config::kUnitRows;
    static constexpr int kUnitsN = Config::kBlockN / kUnitN;
    static constexpr int kParts = Format::kBits / 4;  // of a unit, 16 bytes a lane each
    // A warp copies a part of a unit at once, all warps together some rows of units.
    static constexpr int kRuns = kUnitsK * kUnitsN * kParts;
    static constexpr int kRunsAtOnce = kRuns < Config::kWarps ? kRuns : Config::kWarps;
    static constexpr int kUnitsAtOnce = kRunsAtOnce / (kUnitsN * kParts);
    static_assert(kUnitsAtOnce * kUnitsN * kParts == kRunsAtOnce && kRuns % kRunsAtOnce == 0);
    static constexpr int kChunksX = Config::kBlockK / 8;  // of a row of x
    static_assert(Config::kBlockM * kChunksX <= Config::kThreads);
    static constexpr int kUnitChunks = 32 * kMetadataWords * 4 / 16;
    static constexpr int kMetadataChunks = kUnitsK * kUnitsN * kUnitChunks;
    static_assert(!Config::kSparse || 16 * kMetadataChunks == Config::kMetadataBytes);

  public:
    TARPON_DEVICE StageLoader(const Params &p, int tile) : at_(p, tile) { begin_column(p); }

    TARPON_DEVICE void load(Stage<Config, T> &stage, const Params &p, uint64_t evict_first) {
        copy_weights(stage, p, evict_first);
        if constexpr (Config::kSparse) copy_metadata(stage, p);
        copy_x(stage.x, p);
        if constexpr (Config::kGrouped) scales_.copy(stage.scales, p, k_);
        if constexpr (Format::kZeros) {
            // Computed anew: kept addresses would be spilled by the tile of 16 rows.
            GroupRows<Config, uint8_t> zeros;
            zeros.begin_column(p.zeros, p, at_.n_tile);
            zeros.copy(stage.zeros, p, k_);
        }
        k_ += Config::kBlockK;
        if (k_ < p.k_tiles * Config::kBlockK) return;
        at_.next_column(p);
        begin_column(p);
    }

  private:
    TARPON_DEVICE void begin_column(const Params &p) {
        k_ = at_.k_tile * Config::kBlockK;
        const int warp = ptx::warp_id(), lane = ptx::lane_id(), thread = ptx::thread_idx();

        const int part = warp % kParts, in_k = warp / kParts / kUnitsN;
        const int unit_n = at_.n_tile * kUnitsN + warp / kParts % kUnitsN;
        const int64_t unit = int64_t(at_.k_tile * kUnitsK + in_k) * p.n_units + unit_n;
        weights_ = p.qweight + 32 * (kParts * unit + part) + lane;
        weights_end_ = ((unit_n < p.n_units ? p.k_units : 0) - in_k) * Config::kUnitRows;

        const int m = at_.m_block * Config::kBlockM + thread / kChunksX;
        const int chunk = thread % kChunksX;
        x_ = static_cast<const T *>(p.x) + int64_t(m) * p.k + k_ + 8 * chunk;
        x_end_ = (m < p.m ? p.k : 0) - 8 * chunk;

        if constexpr (Config::kSparse) {
            const int in_unit = thread / kUnitChunks;
            const int metadata_n = at_.n_tile * kUnitsN + in_unit % kUnitsN;
            const int metadata_k = in_unit / kUnitsN;
            metadata_ =
                p.metadata + thread % kUnitChunks +
                kUnitChunks * (int64_t(at_.k_tile * kUnitsK + metadata_k) * p.n_units + metadata_n);
            metadata_end_ =
                ((metadata_n < p.n_units ? p.k_units : 0) - metadata_k) * Config::kUnitRows;
        }
        if constexpr (Config::kGrouped) {
            using Scale = typename Format::Scale;
            scales_.begin_column(static_cast<const Scale *>(p.scales), p, at_.n_tile);
        }
    }

    TARPON_DEVICE void copy_weights(Stage<Config, T> &stage, const Params &p,
                                    uint64_t evict_first) {
        if (kRunsAtOnce < Config::kWarps && ptx::warp_id() >= kRunsAtOnce) return;
        const int64_t step = int64_t(p.n_units) * (32 * kParts * kUnitsAtOnce);
        // Units and their parts follow one another in a stage as the warps take them.
        Words *smem = &stage.qweight[0][0][0][0] + ptx::thread_idx();
        TARPON_UNROLL
        for (int i = 0; i < kUnitsK / kUnitsAtOnce; ++i) {
            const bool valid = k_ + i * kUnitsAtOnce * Config::kUnitRows < weights_end_;
            ptx::cp_async_16_hint(smem + 32 * kRunsAtOnce * i, weights_, valid ? 16 : 0,
                                  evict_first);
            weights_ += step;
        }
    }

    // Units beyond W's end take the metadata of the first one: places must be in increasing order,
    // which zeros are not.
    TARPON_DEVICE void copy_metadata(Stage<Config, T> &stage, const Params &p) {
        const int thread = ptx::thread_idx();
        if (thread >= kMetadataChunks) return;
        const Words *source = k_ < metadata_end_ ? metadata_ : p.metadata + thread % kUnitChunks;
        ptx::cp_async_16(&stage.metadata[thread], source, 16);
        metadata_ += int64_t(p.n_units) * (kUnitsK * kUnitChunks);
    }

    TARPON_DEVICE void copy_x(T *smem, const Params &p) {
        const int row = ptx::thread_idx() / kChunksX, chunk = ptx::thread_idx() % kChunksX;
        if (row >= Config::kBlockM) return;
        T *dst = smem + 8 * (row * kChunksX + layout::swizzle_chunk<kChunksX>(row, chunk));
        const int valid = x_end_ - k_;
        if (p.x_vectors) {
            ptx::cp_async_16(dst, x_, valid > 0 ? 16 : 0);
        } else {
            const int k = k_ + 8 * chunk;
            const T *row_begin = valid > 0 ? x_ - k : static_cast<const T *>(p.x);
            copy_elements(dst, row_begin, p.gather, k, valid);
        }
        x_ += Config::kBlockK;
    }

    Cursor at_;
    int k_;  // the first input of the stage that is next
    // Where the thread's next copies begin, and the input from which on there is nothing for them.
    const Words *weights_;
    const T *x_;
    const Words *metadata_;
    int weights_end_, x_end_, metadata_end_;
    GroupRows<Config, typename Format::Scale> scales_;
};

}  // namespace tarpon::w4_gemm
