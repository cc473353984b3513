// From the accumulators of the sm80 kernel to y: the sum over warps, over the stripes or slices that
// share a column, then scale, bias, residual and one rounding.
#pragma once

#include "w4_gemm/sm80_multiply.cuh"

namespace tarpon::w4_gemm {

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
                ptx::st_shared(&exchange.sums[slot][t][lane], {a[0], a[1], a[2], a[3]});
            }
            ptx::sync_threads();
            TARPON_UNROLL
            for (int t = 0; warp_k<Config>() < half && t < Config::kTilesAcc; ++t) {
                const Floats other = ptx::ld_shared(&exchange.sums[slot][t][lane]);
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
TARPON_DEVICE void store_partial(const Accumulators<Config> &acc, const Params &p, int stripe) {
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            const float(&a)[4] = acc[m][t];
            ptx::st_global(partial_of<Config>(p, stripe, m, t), {a[0], a[1], a[2], a[3]});
        }
    }
}

template <class Config>
TARPON_DEVICE void add_partial(Accumulators<Config> &acc, const Params &p, int stripe) {
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

template <class Config>
TARPON_DEVICE void hand_over(const Accumulators<Config> &acc, const Params &p, int stripe) {
    store_partial<Config>(acc, p, stripe);
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
        Ticket *flag = &p.flags[stripe];
        while (ptx::ld_acquire(&flag->low) != p.ticket.low ||
               ptx::ld_acquire(&flag->high) != p.ticket.high) {
        }
        ptx::st_release(&flag->low, 0);
        ptx::st_release(&flag->high, 0);
    }
    sync_owners<Config>();
    add_partial<Config>(acc, p, stripe);
}

// Eight columns of a row of y: the finished sums times the columns' factors, plus bias and residual,
// in fp32. `column` is that of the first, of which `count` exist.
template <class T>
TARPON_DEVICE void finish_chunk(float (&v)[8], const Params &p, int64_t row_begin, int column,
                                int count) {
    TARPON_UNROLL
    for (int i = 0; i < 8; i += 4) {
        const auto scale =
            ptx::ld_global_nc(reinterpret_cast<const Floats *>(p.column_scale + column + i));
        TARPON_UNROLL
        for (int e = 0; e < 4; ++e)
            v[i + e] *= scale.v[e];
        if (p.bias) {
            const auto bias =
                ptx::ld_global_nc(reinterpret_cast<const Floats *>(p.bias + column + i));
            TARPON_UNROLL
            for (int e = 0; e < 4; ++e)
                v[i + e] += bias.v[e];
        }
    }
    if (!p.residual) return;
    const T *residual = static_cast<const T *>(p.residual) + row_begin + column;
    if (p.y_vectors) {
        const auto chunk = ptx::ld_global(reinterpret_cast<const Pack<T, 8> *>(residual));
        TARPON_UNROLL
        for (int e = 0; e < 8; ++e)
            v[e] += to_float(chunk.v[e]);
    } else {
        TARPON_UNROLL
        for (int e = 0; e < 8; ++e) {
            if (e < count) v[e] += to_float(ptx::ld_global(residual + e));
        }
    }
}

// Finishes the warp's columns of y and stores them 16 bytes a lane, by way of shared memory.
template <class Config, class T>
TARPON_DEVICE void store_y(const Accumulators<Config> &acc, float *tile, const Params &p,
                           const Cursor &at) {
    const int lane = ptx::lane_id();
    const int group = lane / 4, member = lane % 4;  // of layout::MmaM16N8K16
    constexpr int kChunksPerRow = Config::kWarpN / 8;
    // Padded rows, not a swizzle: addresses that differ by constants cost no registers in the main
    // loop, where the compiler computes them.
    const auto element = [&](int row, int column) {
        return tile + Config::kTileRowFloats * row + column;
    };
    TARPON_UNROLL
    for (int m = 0; m < Config::kTilesM; ++m) {
        TARPON_UNROLL
        for (int t = 0; t < Config::kTilesAcc; ++t) {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half) {
                const float lo = acc[m][t][2 * half], hi = acc[m][t][2 * half + 1];
                if constexpr (Config::kTransposed) {
                    const int column = 16 * t + 8 * half + group;
                    ptx::st_shared(element(2 * member, column), lo);
                    ptx::st_shared(element(2 * member + 1, column), hi);
                } else {
                    using Pair = Pack<float, 2>;
                    ptx::st_shared(
                        reinterpret_cast<Pair *>(element(8 * half + group, 8 * t + 2 * member)),
                        Pair{lo, hi});
                }
            }
        }
        ptx::sync_warp();
        TARPON_NO_UNROLL  // rare, and its addresses would crowd out the accumulators
            for (int i = lane; i < kChunksPerRow * Config::kTileRows; i += 32) {
            const int tile_row = i / kChunksPerRow, tile_column = 8 * (i % kChunksPerRow);
            const int row = at.m_block * Config::kBlockM + Config::kTileRows * m + tile_row;
            const int column =
                at.n_tile * Config::kBlockN + warp_n<Config>() * Config::kWarpN + tile_column;
            if (row >= p.m || column >= p.n) continue;
            float v[8];
            TARPON_UNROLL
            for (int e = 0; e < 8; e += 4) {
                const auto part = ptx::ld_shared(
                    reinterpret_cast<const Floats *>(element(tile_row, tile_column + e)));
                TARPON_UNROLL
                for (int j = 0; j < 4; ++j)
                    v[e + j] = part.v[j];
            }
            const int64_t row_begin = int64_t(row) * p.n;
            finish_chunk<T>(v, p, row_begin, column, p.n - column);
            T *dst = static_cast<T *>(p.y) + row_begin + column;
            if (p.y_vectors) {
                Pack<uint32_t, 4> chunk;
                TARPON_UNROLL
                for (int e = 0; e < 4; ++e)
                    chunk.v[e] = ptx::pack2<T>(v[2 * e], v[2 * e + 1]);
                ptx::st_global(reinterpret_cast<Pack<uint32_t, 4> *>(dst), chunk);
            } else {
                TARPON_UNROLL
                for (int e = 0; e < 8; ++e) {
                    if (column + e < p.n) ptx::st_global(dst + e, from_float<T>(v[e]));
                }
            }
        }
        ptx::sync_warp();
    }
}

// Between the slices of a column that one stripe computes: adds the sum of those before, and puts
// it down if there are more. Whether y is due. The partial block is this stripe's own, and every
// thread reads what it wrote.
template <class Config>
TARPON_DEVICE bool continue_column(Accumulators<Config> &acc, const Params &p, const Stripe &stripe,
                                   int run_begin) {
    const int begin = run_begin % p.k_tiles;
    if (begin > 0) add_partial<Config>(acc, p, stripe.number);
    if (begin + p.run_tiles == p.k_tiles) return true;
    store_partial<Config>(acc, p, stripe.number);
    return false;
}

// Ends a stripe's run of tiles in one column. The stripe that began the column gathers the sums of
// those that came after it, in their order, and stores y.
template <class Config, class T>
TARPON_DEVICE void finish_run(Accumulators<Config> &acc, SharedStorage<Config, T> &storage,
                              const Params &p, int run_begin, const Stripe &stripe) {
    if constexpr (Config::kWarpsK > 1) sum_slabs<Config, T>(acc, storage.exchange);
    if (warp_k<Config>() != 0) return;
    if constexpr (Config::kWarpsK == 1) {
        const bool whole_columns = p.stripe_tiles >= p.k_tiles;
        if (p.run_tiles < p.k_tiles && whole_columns &&
            !continue_column<Config>(acc, p, stripe, run_begin)) {
            return;
        }
    }
    const int column_begin = run_begin / p.k_tiles * p.k_tiles;
    const int column_end = column_begin + p.k_tiles;
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
    store_y<Config, T>(acc, storage.exchange.tiles[warp_n<Config>()], p, at);
}

}  // namespace tarpon::w4_gemm
