// y[M, N] = x[M, K] * W[K, N] with 4-bit W, for sm_80 and newer: mma.sync on a cp.async pipeline,
// MARLIN's weight order and striped partition. README.md has the mathematics and the drawings.
//
// Called by launch.cu, which also instantiates it; run alone: `w4_gemm_test sim` (simulator) or
// `w4_gemm_test cuda`. Reading order: sm80_w4_gemm_kernel at the end, then the steps it names.
#pragma once

#include "common/launch.cuh"
#include "common/layout.h"
#include "common/ptx.cuh"
#include "w4_gemm/config.h"
#include "w4_gemm/dequant.cuh"
#include "w4_gemm/pack.h"

namespace tarpon::w4_gemm {

// What one lane moves with one access.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
    T v[kCount];
};
using Words = Pack<uint32_t, 4>;
using Floats = Pack<float, 4>;
// The scales of a lane's accumulators: one for each of the eighths of its warp's columns.
template <class Config>
using Scales = Pack<half_t, Config::kWarpN / 8>[Config::kTransposed ? 1 : 2];

// Announces that a stripe's partial sums are in the workspace: it then holds the run's ticket. Two
// words, because acquire loads are 32 bits wide; together they are never equal by accident.
struct Flag {
    int32_t low, high;
};
static_assert(sizeof(Flag) == kFlagBytes);

struct Params {
    const void *x;         // T [m, k]
    const Words *qweight;  // [k_units, n_units, 32 lanes], MARLIN order
    const half_t *scales;  // [groups, 64 * n_units], MARLIN's order for groups (pack.h)
    void *y;               // T [m, n]
    Flag *flags;           // [grid]
    Floats *partials;      // [grid, BLOCK_M * BLOCK_N / 4], in fragment order
    Flag ticket;
    int total_tiles, stripe_tiles;
    int m, n, k;
    int k_units, n_units;  // of 16 rows and of 64 columns
    int k_tiles, m_blocks;
    int groups, group_shift;    // log2 of the rows that share a scale; grouped configs only
    bool x_vectors, y_vectors;  // rows of x, y begin at multiples of 16 bytes
};

// One pipeline stage: what a CTA needs for BLOCK_K rows of W.
template <class Config, class T>
struct alignas(128) Stage {
    T x[Config::kBlockM * Config::kBlockK];  // rows of x, 16-byte chunks swizzled
    Words qweight[Config::kBlockK / kUnitK][Config::kBlockN / kUnitN][32];
    half_t scales[Config::kGrouped ? Config::kBlockK / kMinGroupSize : 1][Config::kBlockN];
};

template <class Config, class T>
struct SharedStorage {
    Stage<Config, T> stages[Config::kStages];
    // Half of the warps' accumulators of 16 rows (sum_slabs); later one y tile a warp (store_y).
    using Exchange =
        Floats[Config::kWarpsK > 1 ? Config::kWarps / 2 : Config::kWarps][Config::kTilesAcc][32];
    Exchange exchange;
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

// Eight elements of a row of x whose address allows no vector access.
template <class T>
TARPON_DEVICE void copy_elements(T *smem, const T *gmem, int valid) {
    Pack<T, 8> chunk;
    TARPON_UNROLL
    for (int i = 0; i < 8; ++i) {
        chunk.v[i] = i < valid ? ptx::ld_global(gmem + i) : T{0};
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
        const T *src = static_cast<const T *>(p.x) + (valid > 0 ? int64_t(m) * p.k + k : 0);
        T *dst =
            smem + 8 * (row * kChunksPerRow + layout::swizzle_chunk<kChunksPerRow>(row, chunk));
        if (p.x_vectors) {
            ptx::cp_async_16(dst, src, valid > 0 ? 16 : 0);
        } else {
            copy_elements(dst, src, valid);
        }
    }
}

// Units beyond W's end are filled with zero bytes: finite weights that meet zeros of x, or columns
// that are not stored.
template <class Config, class T>
TARPON_DEVICE void load_weights(Stage<Config, T> &stage, const Params &p, const Cursor &at,
                                uint64_t evict_first) {
    constexpr int kUnitsK = Config::kBlockK / kUnitK, kUnitsN = Config::kBlockN / kUnitN;
    TARPON_UNROLL
    for (int begin = 0; begin < 32 * kUnitsK * kUnitsN; begin += Config::kThreads) {
        const int i = begin / 32 + ptx::warp_id();
        const int unit_k = at.k_tile * kUnitsK + i / kUnitsN;
        const int unit_n = at.n_tile * kUnitsN + i % kUnitsN;
        const bool valid = unit_k < p.k_units && unit_n < p.n_units;
        const int64_t unit = valid ? int64_t(unit_k) * p.n_units + unit_n : 0;
        ptx::cp_async_16_hint(&stage.qweight[i / kUnitsN][i % kUnitsN][ptx::lane_id()],
                              p.qweight + 32 * unit + ptx::lane_id(), valid ? 16 : 0, evict_first);
    }
}

// The scales of the groups that begin in or reach into the tile; zero beyond W's end.
template <class Config, class Rows>
TARPON_DEVICE void load_scales(Rows &smem, const Params &p, const Cursor &at) {
    constexpr int kChunksPerRow = Config::kBlockN / 8;
    const int rows = Config::kBlockK >> p.group_shift;  // 0: the group is larger than the tile
    const int row = ptx::thread_idx() / kChunksPerRow, chunk = ptx::thread_idx() % kChunksPerRow;
    if (row >= (rows > 1 ? rows : 1)) return;
    const int group = (at.k_tile * Config::kBlockK >> p.group_shift) + row;
    const int column = at.n_tile * Config::kBlockN + 8 * chunk;
    const int columns = 64 * p.n_units;
    const bool valid = group < p.groups && column < columns;
    ptx::cp_async_16(&smem[row][8 * chunk],
                     p.scales + (valid ? int64_t(group) * columns + column : 0), valid ? 16 : 0);
}

template <class Config, class T>
TARPON_DEVICE void load_stage(Stage<Config, T> &stage, const Params &p, const Cursor &at,
                              uint64_t evict_first) {
    load_weights(stage, p, at, evict_first);
    load_x<Config>(stage.x, p, at);
    if constexpr (Config::kGrouped) load_scales<Config>(stage.scales, p, at);
}

// ---- Shared memory to registers -----------------------------------------------------------------

// What a warp multiplies in one stage: its slab of 32 rows of W.
template <class Config, class T>
struct Fragments {
    uint32_t x[Config::kSlabSteps][Config::kTilesM][Config::kTransposed ? 2 : 4];
    Pack<uint32_t, Config::kTilesN> qweight[Config::kSlabSteps];
    Scales<Config> scales;  // grouped configs only
};

// The scales of the columns that a lane's accumulators hold. `unit` are the scales of 64 columns in
// MARLIN's order for groups: position 8i + j holds column i + 8j.
template <class Config, class Load>
TARPON_DEVICE void load_lane_scales(Scales<Config> &scales, const half_t *unit, const Load &load) {
    using Row = Pack<half_t, Config::kWarpN / 8>;
    const half_t *warp = unit + Config::kWarpN / 8 * (warp_n<Config>() % (64 / Config::kWarpN));
    if constexpr (Config::kTransposed) {
        scales[0] = load(reinterpret_cast<const Row *>(warp + 8 * (ptx::lane_id() / 4)));
    } else {
        TARPON_UNROLL
        for (int i = 0; i < 2; ++i) {
            const int column = 2 * (ptx::lane_id() % 4) + i;
            scales[i] = load(reinterpret_cast<const Row *>(warp + 8 * column));
        }
    }
}

template <class Config, class T>
TARPON_DEVICE void load_fragments(Fragments<Config, T> &f, const Stage<Config, T> &stage,
                                  const Params &p) {
    constexpr int kChunksPerRow = Config::kBlockK / 8;
    const int lane = ptx::lane_id();
    const int slab_chunk = warp_k<Config>() * Config::kSlabK / 8;
    const auto row_address = [&](int row, int chunk) {
        return stage.x + 8 * (row * kChunksPerRow +
                              layout::swizzle_chunk<kChunksPerRow>(row, slab_chunk + chunk));
    };
    if constexpr (Config::kTransposed) {
        uint32_t r[4];  // four matrices of 8 rows of x by 8 of k: x^T fragments of both steps
        ptx::ldmatrix_x4(r, row_address(lane % 8, lane / 8));
        f.x[0][0][0] = r[0], f.x[0][0][1] = r[1];
        f.x[1][0][0] = r[2], f.x[1][0][1] = r[3];
    } else {
        TARPON_UNROLL
        for (int step = 0; step < Config::kSlabSteps; ++step) {
            TARPON_UNROLL
            for (int m = 0; m < Config::kTilesM; ++m) {
                ptx::ldmatrix_x4(f.x[step][m],
                                 row_address(16 * m + lane % 16, 2 * step + lane / 16));
            }
        }
    }
    constexpr int kWarpsPerUnit = 64 / Config::kWarpN;
    const int unit_n = warp_n<Config>() / kWarpsPerUnit;
    TARPON_UNROLL
    for (int step = 0; step < Config::kSlabSteps; ++step) {
        const int unit_k = warp_k<Config>() * Config::kSlabSteps + step;
        const uint32_t *words = &stage.qweight[unit_k][unit_n][lane]
                                     .v[Config::kTilesN * (warp_n<Config>() % kWarpsPerUnit)];
        f.qweight[step] =
            ptx::ld_shared(reinterpret_cast<const Pack<uint32_t, Config::kTilesN> *>(words));
    }
    if constexpr (Config::kGrouped) {
        const int row = warp_k<Config>() * Config::kSlabK >> p.group_shift;
        load_lane_scales<Config>(f.scales, &stage.scales[row][64 * unit_n],
                                 [](const auto *s) { return ptx::ld_shared(s); });
    }
}

// ---- Registers to accumulators ------------------------------------------------------------------

// Fragment [m][t] of the warp: 16 rows by 8 columns 8t .. 8t+7 of y, or transposed, 16 columns
// 16t .. 16t+15 by 8 rows.
template <class Config>
using Accumulators = float[Config::kTilesM][Config::kTilesAcc][4];

// The scale of accumulator element i of fragment t.
template <class Config>
TARPON_DEVICE float scale_of(const Scales<Config> &scales, int t, int i) {
    if constexpr (Config::kTransposed) {
        return to_float(scales[0].v[2 * t + i / 2]);
    } else {
        return to_float(scales[i % 2].v[t]);
    }
}

template <class Config>
TARPON_DEVICE void add_scaled(float (&acc)[4], const float (&sum)[4], const Scales<Config> &scales,
                              int t) {
    TARPON_UNROLL
    for (int i = 0; i < 4; ++i) {
        acc[i] += scale_of<Config>(scales, t, i) * sum[i];
    }
}

// acc += slab of x * slab of W. Integer codes go into the tensor core; a slab lies in one group, so
// its sum is scaled in fp32 before it joins the others.
template <class Config, class T>
TARPON_DEVICE void multiply(Accumulators<Config> &acc, const Fragments<Config, T> &f) {
    TARPON_UNROLL
    for (int tile = 0; tile < Config::kTilesN; ++tile) {
        uint32_t w[Config::kSlabSteps][4];
        TARPON_UNROLL
        for (int step = 0; step < Config::kSlabSteps; ++step) {
            Dequant<typename Config::Format, T>::run(f.qweight[step].v[tile], w[step]);
        }
        if constexpr (Config::kTransposed) {
            float sum[4] = {};
            float(&target)[4] = Config::kGrouped ? sum : acc[0][tile];
            TARPON_UNROLL
            for (int step = 0; step < Config::kSlabSteps; ++step) {
                // The two column halves of W are the two row halves of W^T.
                const uint32_t w_t[4] = {w[step][0], w[step][2], w[step][1], w[step][3]};
                ptx::mma_m16n8k16<T>(target, w_t, f.x[step][0]);
            }
            if constexpr (Config::kGrouped) add_scaled<Config>(acc[0][tile], sum, f.scales, tile);
        } else {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half) {
                const int t = 2 * tile + half;
                float sums[Config::kTilesM][4] = {};
                TARPON_UNROLL
                for (int step = 0; step < Config::kSlabSteps; ++step) {
                    const uint32_t b[2] = {w[step][2 * half], w[step][2 * half + 1]};
                    TARPON_UNROLL
                    for (int m = 0; m < Config::kTilesM; ++m) {
                        ptx::mma_m16n8k16<T>(Config::kGrouped ? sums[m] : acc[m][t], f.x[step][m],
                                             b);
                    }
                }
                TARPON_UNROLL
                for (int m = 0; Config::kGrouped && m < Config::kTilesM; ++m) {
                    add_scaled<Config>(acc[m][t], sums[m], f.scales, t);
                }
            }
        }
    }
}

// ---- Accumulators to y --------------------------------------------------------------------------

// Adds the slabs of one column block: afterwards warps with warp_k() == 0, the block's first ones,
// hold the sums. A tree, so that the order is fixed.
template <class Config, class T>
TARPON_DEVICE void sum_slabs(Accumulators<Config> &acc,
                             typename SharedStorage<Config, T>::Exchange &exchange) {
    const int lane = ptx::lane_id();
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int half = Config::kWarpsK / 2; half > 0; half /= 2) {
            const int slot = warp_k<Config>() % half * Config::kWarpsN + warp_n<Config>();
            const bool gives = warp_k<Config>() >= half && warp_k<Config>() < 2 * half;
            TARPON_UNROLL
            for (int t = 0; gives && t < Config::kTilesAcc; ++t) {
                const float(&a)[4] = acc[m][t];
                ptx::st_shared(&exchange[slot][t][lane], {a[0], a[1], a[2], a[3]});
            }
            ptx::sync_threads();
            TARPON_UNROLL
            for (int t = 0; warp_k<Config>() < half && t < Config::kTilesAcc; ++t) {
                const Floats other = ptx::ld_shared(&exchange[slot][t][lane]);
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i)
                    acc[m][t][i] += other.v[i];
            }
            ptx::sync_threads();
        }
    }
}

// The warps that hold a block's sums meet.
template <class Config>
TARPON_DEVICE void sync_owners() {
    constexpr int kOwnersBarrier = 1;
    ptx::named_barrier_sync(kOwnersBarrier, 32 * Config::kWarpsN);
}

// Where fragment [m][t] of this lane is in the partial block of a stripe.
template <class Config>
TARPON_DEVICE Floats *partial_of(const Params &p, int stripe, int m, int t) {
    constexpr int kBlockFloats = Config::kBlockM * Config::kBlockN / 4;
    const int fragment = (m * Config::kTilesAcc + t) * Config::kWarpsN + warp_n<Config>();
    return p.partials + int64_t(stripe) * kBlockFloats + 32 * fragment + ptx::lane_id();
}

template <class Config>
TARPON_DEVICE void hand_over(const Accumulators<Config> &acc, const Params &p, int stripe) {
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            const float(&a)[4] = acc[m][t];
            ptx::st_global(partial_of<Config>(p, stripe, m, t), {a[0], a[1], a[2], a[3]});
        }
    }
    sync_owners<Config>();
    if (ptx::thread_idx() == 0) {
        ptx::st_release(&p.flags[stripe].high, p.ticket.high);
        ptx::st_release(&p.flags[stripe].low, p.ticket.low);
    }
}

// Waits for a stripe's partial sums and adds them. Leaves the flag cleared: a replay of this launch
// in a CUDA graph brings the same ticket.
template <class Config>
TARPON_DEVICE void take_over(Accumulators<Config> &acc, const Params &p, int stripe) {
    if (ptx::thread_idx() == 0) {
        Flag *flag = &p.flags[stripe];
        while (ptx::ld_acquire(&flag->low) != p.ticket.low ||
               ptx::ld_acquire(&flag->high) != p.ticket.high) {
        }
        ptx::st_release(&flag->low, 0);
        ptx::st_release(&flag->high, 0);
    }
    sync_owners<Config>();
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            const Floats other = ptx::ld_global(partial_of<Config>(p, stripe, m, t));
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i)
                acc[m][t][i] += other.v[i];
        }
    }
}

// One scale a column, applied to the finished sums.
template <class Config>
TARPON_DEVICE void scale_columns(Accumulators<Config> &acc, const Params &p, int unit_n) {
    Scales<Config> scales;
    load_lane_scales<Config>(scales, p.scales + 64 * unit_n,
                             [](const auto *s) { return ptx::ld_global_nc(s); });
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i)
                acc[m][t][i] *= scale_of<Config>(scales, t, i);
        }
    }
}

// Rounds the warp's columns of y and stores them 16 bytes a lane, by way of shared memory.
template <class Config, class T>
TARPON_DEVICE void store_y(const Accumulators<Config> &acc, T *tile, const Params &p,
                           const Cursor &at) {
    constexpr int kRows = Config::kTransposed ? 8 : 16;
    const int lane = ptx::lane_id();
    const int group = lane / 4, member = lane % 4;  // of layout::MmaM16N8K16
    // 16 bytes between rows keep the eight rows of a fragment in different banks, at addresses that
    // differ by constants (a swizzle would cost registers in the main loop, where the compiler
    // computes them).
    constexpr int kRowElems = Config::kWarpN + 8;
    constexpr int kChunksPerRow = Config::kWarpN / 8;
    const auto element = [&](int row, int column) { return tile + kRowElems * row + column; };
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half) {
                const float lo = acc[m][t][2 * half], hi = acc[m][t][2 * half + 1];
                if constexpr (Config::kTransposed) {
                    const int column = 16 * t + 8 * half + group;
                    ptx::st_shared(element(2 * member, column), from_float<T>(lo));
                    ptx::st_shared(element(2 * member + 1, column), from_float<T>(hi));
                } else {
                    ptx::st_shared(
                        reinterpret_cast<uint32_t *>(element(8 * half + group, 8 * t + 2 * member)),
                        ptx::pack2<T>(lo, hi));
                }
            }
        }
        ptx::sync_warp();
        TARPON_NO_UNROLL  // rare, and its addresses would crowd out the accumulators
            for (int i = lane; i < kChunksPerRow * kRows; i += 32) {
            const int tile_row = i / kChunksPerRow, tile_column = 8 * (i % kChunksPerRow);
            const int row = at.m_block * Config::kBlockM + 16 * m + tile_row;
            const int column =
                at.n_tile * Config::kBlockN + warp_n<Config>() * Config::kWarpN + tile_column;
            if (row >= p.m || column >= p.n) continue;
            const auto chunk = ptx::ld_shared(
                reinterpret_cast<const Pack<T, 8> *>(element(tile_row, tile_column)));
            T *dst = static_cast<T *>(p.y) + int64_t(row) * p.n + column;
            if (p.y_vectors) {
                ptx::st_global(reinterpret_cast<Pack<T, 8> *>(dst), chunk);
            } else {
                TARPON_UNROLL
                for (int e = 0; e < 8; ++e) {
                    if (column + e < p.n) ptx::st_global(dst + e, chunk.v[e]);
                }
            }
        }
        ptx::sync_warp();
    }
}

// Ends a stripe's run of tiles in one column. The stripe that began the column gathers the sums of
// those that came after it, in their order, and stores y.
template <class Config, class T>
TARPON_DEVICE void finish_column(Accumulators<Config> &acc, SharedStorage<Config, T> &storage,
                                 const Params &p, int column, const Stripe &stripe) {
    sum_slabs<Config, T>(acc, storage.exchange);
    if (warp_k<Config>() != 0) return;
    const int column_begin = column * p.k_tiles, column_end = column_begin + p.k_tiles;
    if (stripe.begin > column_begin) {
        hand_over<Config>(acc, p, stripe.number);
        return;
    }
    for (int other = stripe.number + 1; other * p.stripe_tiles < column_end; ++other) {
        take_over<Config>(acc, p, other);
    }
    const Cursor at(p, column_begin);
    const int unit_n = (at.n_tile * Config::kBlockN + warp_n<Config>() * Config::kWarpN) / kUnitN;
    if (unit_n >= p.n_units) return;
    if constexpr (!Config::kGrouped) scale_columns<Config>(acc, p, unit_n);
    T *tile = reinterpret_cast<T *>(&storage.exchange[warp_n<Config>()]);
    store_y<Config>(acc, tile, p, at);
}

// ---- The kernel ---------------------------------------------------------------------------------

template <class Config, class T>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(Config::kThreads, Config::kBlocksPerSm)
    sm80_w4_gemm_kernel(Params p) {
    static_assert(sizeof(SharedStorage<Config, T>) <= size_t(Config::kSharedBytes));
    auto &storage = shared_storage<SharedStorage<Config, T>>();

    // Stripes wait for stripes with larger numbers, so these go to the blocks that start first:
    // nobody waits for a block that the hardware has not started.
    Stripe stripe;
    stripe.number = ptx::grid_dim() - 1 - ptx::block_idx();
    stripe.begin = stripe.number * p.stripe_tiles;
    stripe.end = smaller(stripe.begin + p.stripe_tiles, p.total_tiles);

    // Stages are loaded kStages - 1 tiles ahead of their fragments, and these kAhead tiles ahead of
    // their multiplication; both run on into the next columns.
    constexpr int kStages = Config::kStages, kAhead = Config::kFragmentsAhead;
    constexpr int kStagesAhead = kStages - 1 + kAhead;
    const uint64_t evict_first = ptx::create_policy_evict_first();
    Cursor fetch(p, stripe.begin);
    const auto load_tile = [&](int tile, int slot) {
        if (tile < stripe.end) {
            load_stage(storage.stages[slot], p, fetch, evict_first);
            fetch.advance(p);
        }
        ptx::cp_async_commit();  // an empty group at the end keeps the count of pending ones right
    };
    Fragments<Config, T> fragments[1 + kAhead];
    TARPON_UNROLL
    for (int i = 0; i < kStagesAhead; ++i)
        load_tile(stripe.begin + i, i);
    if constexpr (kAhead == 1) {
        ptx::cp_async_wait<kStages - 1>();
        ptx::sync_threads();
        load_fragments(fragments[0], storage.stages[0], p);
    }

    int slot = kAhead;  // of the stage that fragments are loaded from next
    for (int tile = stripe.begin; tile < stripe.end;) {
        const int column = tile / p.k_tiles;
        const int run_end = smaller((column + 1) * p.k_tiles, stripe.end);
        Accumulators<Config> acc = {};
        for (; tile < run_end; ++tile) {
            // The stage in `slot` has arrived, and every warp is done with the one before it.
            ptx::cp_async_wait<kStages - 2>();
            ptx::sync_threads();
            load_tile(tile + kStagesAhead, slot == 0 ? kStages - 1 : slot - 1);
            if (tile + kAhead < stripe.end) {
                load_fragments(fragments[kAhead], storage.stages[slot], p);
            }
            slot = slot == kStages - 1 ? 0 : slot + 1;
            multiply<Config>(acc, fragments[0]);
            fragments[0] = fragments[kAhead];
        }
        finish_column(acc, storage, p, column, stripe);
    }
}

}  // namespace tarpon::w4_gemm
