// Which tile and how many CTAs a product takes: a cost model with stated assumptions. Plain host
// C++; pure, so that host_test.cc checks every choice without a GPU.
//
// Callers: native/src/cuda/linear.cc (which sizes the workspace, too), explain.h, bench.cu.
#pragma once

#include "common/ticket.h"
#include "w4_gemm/partition.h"

namespace tarpon::w4_gemm {

struct DeviceProps {
    int sm_count;
    int compute_capability;  // 10 * major + minor
};

// One launch: `grid` CTAs, of which number i computes the stage tiles
// [i * stripe_tiles, (i + 1) * stripe_tiles) of the work list (see README.md, "Stripes").
struct Choice {
    int tile;  // of the tile table in config.h
    int grid;
    int stripe_tiles;
    double predicted_us;
    bool deterministic = false;
};

// What the cost model knows of an architecture: data sheets' figures, per SM and clock.
struct ArchModel {
    int compute_capability;
    int sm_count;  // of the product that the figures are of
    double ghz;
    double dram_bytes_per_clock;  // of one SM's share
    double l2_bytes_per_clock;
    double mma_fma_per_clock;  // mma.sync with fp32 accumulation
    int shared_kib;            // of an SM
};

// The newest entry that is not newer than the device.
constexpr ArchModel arch_model(int compute_capability) {
    constexpr ArchModel kModels[] = {
        {80, 108, 1.41, 10.2, 40, 1024, 164},  // A100: 1555 GB/s, 108 SMs
        {86, 82, 1.70, 6.5, 28, 256, 100},     // RTX 3090: 936 GB/s, 82 SMs
        {89, 128, 2.50, 3.2, 24, 256, 100},    // RTX 4090: 1008 GB/s, 128 SMs
        {90, 132, 1.75, 20.0, 40, 1280, 228},  // H200: 4800 GB/s, 132 SMs; mma.sync at 62% of wgmma
        {100, 148, 1.85, 29.0, 45, 1024, 228},  // B200: 8000 GB/s, 148 SMs
        {120, 170, 2.40, 4.4, 24, 256, 100},    // RTX 5090: 1792 GB/s, 170 SMs
    };
    ArchModel model = kModels[0];
    for (const ArchModel &candidate : kModels) {
        if (candidate.compute_capability <= compute_capability) model = candidate;
    }
    return model;
}

// CTAs of a tile that the device holds at once, the wave that one launch fills at most.
constexpr int64_t resident_blocks(const TileShape &tile, const DeviceProps &device) {
    constexpr int kReservedBytes = 1024;  // of shared memory, for each CTA
    const int fit = 1024 * arch_model(device.compute_capability).shared_kib /
                    (tile.shared_bytes + kReservedBytes);
    return int64_t{device.sm_count} * std::min(tile.blocks_per_sm, fit);
}

// Deterministic launches may have more CTAs than one wave: their slices are given. Those that wait
// for others have larger indices and start later.
inline constexpr int64_t kMaxSlicedWaves = 4;

constexpr int64_t largest_grid(const Problem &problem, const TileShape &tile,
                               const DeviceProps &device) {
    const Partition work = partition(problem, tile);
    const int64_t slots = resident_blocks(tile, device);
    return problem.deterministic ? std::min(work.total() / work.run_tiles, kMaxSlicedWaves * slots)
                                 : std::min(work.total(), slots);
}

// Whether a problem's mode may take a tile: of two with the same rows, fast launches take the first.
constexpr bool serves(const Problem &problem, int index) {
    const TileShape &tile = tile_shape(problem, index);
    if (tile.block_m == 0) return false;
    if (problem.deterministic) return is_sliced(tile);
    for (int i = 0; i < index; ++i) {
        if (tile_shape(problem, i).block_m == tile.block_m) return false;
    }
    return true;
}

// The same, and no tile with fewer rows takes all m: it keeps the workspace of few rows small.
constexpr bool is_candidate(const Problem &problem, int index) {
    if (!serves(problem, index)) return false;
    const int block_m = tile_shape(problem, index).block_m;
    for (int i = 0; i < kTileCount; ++i) {
        const int other = tile_shape(problem, i).block_m;
        if (serves(problem, i) && other >= problem.m && other < block_m) return false;
    }
    return true;
}

// How many stripes share the column that is cut most.
constexpr int64_t most_slices(int64_t k_tiles, int64_t stripe_tiles) {
    if (stripe_tiles % k_tiles == 0) return 1;
    if (k_tiles % stripe_tiles == 0) return k_tiles / stripe_tiles;
    return ceil_div(k_tiles - 1, stripe_tiles) + 1;
}

// What a launch costs by the model, in clocks of an SM except for `us`.
struct Cost {
    double dram, l2, mma, issue;  // of one stage of a CTA alone
    double stage;                 // with what overlaps and what shares the SM
    double sums;                  // of a column that is cut
    double us;
};

// The model, of one SM's clocks:
//   stage   weights from DRAM, weights and x from L2, mma and instruction issue overlap, though not
//           perfectly; CTAs on one SM share all four. A CTA alone gets its next stage no sooner
//           than the DRAM's latency over the stages that it has in flight;
//   stripes every CTA runs stripe_tiles stages, after filling its pipeline once;
//   sums    a column cut into s stripes is summed by one CTA: s - 1 partials read from L2, after a
//           wait for the last; every other CTA writes one. A CTA that computes several slices of a
//           column itself writes and reads its sum between them.
constexpr Cost predict(const Problem &problem, const TileShape &tile, int64_t grid,
                       int64_t stripe_tiles, const DeviceProps &device) {
    constexpr double kLaunchUs = 2.0;        // empty kernel in a graph
    constexpr double kFillClocks = 1500;     // first stage from DRAM, and the last store
    constexpr double kLatencyClocks = 1700;  // of DRAM under load
    constexpr double kHandOverClocks = 900;  // flag and data through L2
    constexpr double kOverlapLoss = 0.15;    // of what is hidden
    constexpr double kMissedSharing = 0.5;   // of weights that blocks of rows read side by side
    // Addresses, copies and loop control of 8 warps (README.md, "Instructions and bytes").
    constexpr double kStageIssue = 8 * 32 * 80;
    constexpr double kIssuePerClock = 128;  // 4 schedulers x 32 lanes
    const ArchModel arch = arch_model(device.compute_capability);
    const FormatTraits &format = traits(problem.format);
    const bool grouped = is_grouped(problem.format, problem.groups);
    const double block_m = tile.block_m, block_k = tile.block_k, block_n = tile.block_n;
    const int64_t waves = ceil_div(grid, resident_blocks(tile, device));
    const double per_sm = static_cast<double>(ceil_div(ceil_div(grid, waves), device.sm_count));
    const double m_blocks = static_cast<double>(ceil_div(problem.m, tile.block_m));
    const double weights = block_k * block_n;
    const double group_rows =
        static_cast<double>(problem.groups) / static_cast<double>(problem.k);  // of scales
    const double scale_bytes =
        grouped ? (format.scale_bytes + format.zeros) * weights * group_rows : 0;
    const double weight_bytes = weights * format.stored_bits() / 8 + scale_bytes;
    const double products = block_m * weights / (format.sparse ? 2 : 1);
    const double busy = std::min(static_cast<double>(grid) / device.sm_count, 1.0);
    const double from_dram = weight_bytes * (1 + kMissedSharing * (m_blocks - 1)) / m_blocks;
    // Sums of x are one more multiplication for each slab and tile of rows of a warp.
    const double multiplied =
        products * (1 + (format.offsets ? (tile.block_m == 8 ? 16.0 : 8.0) / tile.warp_n : 0));
    const double scaling = grouped ? products / 32 * (1 + format.offsets) : 0;  // fmas a slab
    const double mma_issue = multiplied / 2048 * 32;
    Cost cost{};
    cost.dram = from_dram * busy / arch.dram_bytes_per_clock;
    cost.l2 = (weight_bytes + 2 * block_m * block_k) / arch.l2_bytes_per_clock;
    cost.mma = multiplied / arch.mma_fma_per_clock;
    cost.issue =
        (weights * format.dequant_ops / 8 + scaling + mma_issue + kStageIssue) / kIssuePerClock;
    const double together = cost.dram + cost.l2 + cost.mma + cost.issue;
    const double longest = std::max({cost.dram, cost.l2, cost.mma, cost.issue});
    const double shared = longest + kOverlapLoss * (together - longest);
    cost.stage = std::max(shared * per_sm, kLatencyClocks / (tile.stages - 1));
    const Partition work = partition(problem, tile);
    const int64_t slices = most_slices(work.k_tiles, stripe_tiles);
    const double block_clocks = 4 * block_m * block_n * per_sm / arch.l2_bytes_per_clock;
    if (slices > 1) cost.sums = kHandOverClocks + static_cast<double>(slices) * block_clocks;
    if (stripe_tiles > work.run_tiles) {
        cost.sums += 2 * block_clocks *
                     static_cast<double>(stripe_tiles / work.run_tiles -
                                         ceil_div(stripe_tiles, work.k_tiles));
    }
    const double clocks =
        static_cast<double>(waves) *
        (kFillClocks + cost.stage * static_cast<double>(stripe_tiles) + cost.sums);
    cost.us = kLaunchUs + clocks / (1e3 * arch.ghz);
    return cost;
}

// The rows that one launch may have, a multiple of 8: stage tiles are counted in 30 bits.
constexpr int64_t max_rows(Problem problem) {
    constexpr int64_t kMaxTiles = int64_t{1} << 30;
    problem.m = 1;
    int64_t most = kMaxTiles;
    for (int i = 0; i < kTileCount; ++i) {
        const TileShape &tile = tile_shape(problem, i);
        if (!serves(problem, i)) continue;
        most = std::min(most, kMaxTiles / partition(problem, tile).total() * 8);
    }
    return most;
}

// Calls use(tile index, grid, stripe_tiles) for every launch that is considered.
template <class Use>
constexpr void for_each_candidate(const Problem &problem, const DeviceProps &device,
                                  const Use &use) {
    for (int i = 0; i < kTileCount; ++i) {
        if (!is_candidate(problem, i)) continue;
        const TileShape &tile = tile_shape(problem, i);
        const Partition work = partition(problem, tile);
        const int64_t slots = resident_blocks(tile, device);
        if (problem.deterministic) {
            // A CTA for every slice, or whole columns for every CTA: both give the same bits.
            const int64_t slices = work.total() / work.run_tiles;
            if (slices <= kMaxSlicedWaves * slots) use(i, slices, work.run_tiles);
            const int64_t columns = ceil_div(work.columns, std::min(work.columns, slots));
            use(i, ceil_div(work.columns, columns), columns * work.k_tiles);
            continue;
        }
        // From one wave of all SMs' slots down: fewer, longer stripes have fewer partials to add.
        for (int64_t divisor = 1; divisor <= 8; divisor *= 2) {
            const int64_t most = std::max<int64_t>(std::min(work.total(), slots) / divisor, 1);
            const int64_t even = ceil_div(work.total(), most);
            // The next longer stripe that cuts all columns at the same places, into fewer slices.
            const int64_t aligned = even < work.k_tiles
                                        ? ceil_div(work.k_tiles, work.k_tiles / even)
                                        : ceil_div(even, work.k_tiles) * work.k_tiles;
            for (const int64_t stripe_tiles : {even, aligned}) {
                use(i, ceil_div(work.total(), stripe_tiles), stripe_tiles);
            }
        }
    }
}

// The cheapest launch for a problem with m, n, k >= 1, m <= max_rows(problem).
constexpr Choice select(const Problem &problem, const DeviceProps &device) {
    Choice best{-1, 0, 0, 0};
    for_each_candidate(problem, device, [&](int tile, int64_t grid, int64_t stripe_tiles) {
        const double us =
            predict(problem, tile_shape(problem, tile), grid, stripe_tiles, device).us;
        if (best.tile < 0 || us < best.predicted_us) {
            best = {tile, static_cast<int>(grid), static_cast<int>(stripe_tiles), us,
                    problem.deterministic};
        }
    });
    return best;
}

// ---- Workspace ----------------------------------------------------------------------------------

// One flag and one partial block of y for every CTA of the largest grid that select() can return.
inline constexpr int64_t kWorkspaceAlign = 256;

constexpr int64_t flags_bytes(int64_t grid) {
    return ceil_div(grid * int64_t{sizeof(Ticket)}, kWorkspaceAlign) * kWorkspaceAlign;
}

constexpr int64_t launch_workspace_bytes(const TileShape &tile, int64_t grid) {
    return flags_bytes(grid) + grid * tile.block_m * tile.block_n * 4;
}

// Enough for every launch that select() returns for up to m rows; never shrinks as m grows.
constexpr int64_t workspace_bytes(const Problem &problem, const DeviceProps &device) {
    if (problem.m <= 0) return 0;
    int64_t bytes = 0;
    for (int i = 0; i < kTileCount; ++i) {
        if (!is_candidate(problem, i)) continue;
        const TileShape &tile = tile_shape(problem, i);
        bytes = std::max(bytes, launch_workspace_bytes(tile, largest_grid(problem, tile, device)));
    }
    return bytes;
}

}  // namespace tarpon::w4_gemm
