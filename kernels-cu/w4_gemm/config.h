// Tiles of the W4 GEMM kernels and the choice among them. Plain host C++ (kernels read the
// constants); pure, so that test.cc checks every choice without a GPU.
//
// Callers: launch.cu (which instantiates the tiles), native/src/cuda/linear.cc (which sizes the
// workspace), the kernel itself for its constants.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace tarpon::w4_gemm {

// ---- What the kernel is compiled for ------------------------------------------------------------

// How weights are stored, and where their scales are applied. A new format (int8, zero points) is
// a new Format type here, its dequantisation in dequant.cuh, and a line in launch.cu's table.
struct Int4Symmetric {
    static constexpr int kBits = 4;
};

// One CTA computes BLOCK_M x BLOCK_N of y and walks K in steps of BLOCK_K, one pipeline stage each.
// Its warps are laid out kWarpsN along N, WARP_N columns each, and kWarpsK along K: within a stage,
// a warp owns a slab of kSlabK rows of W, and the slabs' sums are added at the end of a column.
template <int kM, int kK, int kN, int kWarpColumns>
struct Sm80Tile {
    static constexpr int kBlockM = kM;
    static constexpr int kBlockK = kK;
    static constexpr int kBlockN = kN;
    static constexpr int kWarpN = kWarpColumns;
    static constexpr int kThreads = 256;
    static constexpr int kWarps = kThreads / 32;
    static constexpr int kStages = kBlockK >= 64 ? 4 : 6;

    static constexpr int kWarpsN = kBlockN / kWarpN;
    static constexpr int kWarpsK = kWarps / kWarpsN;
    static constexpr int kSlabK = kBlockK / kWarpsK;
    static constexpr int kSlabSteps = kSlabK / 16;  // mma steps along K
    static constexpr int kTilesN = kWarpN / 16;     // 16x16 tiles of W
    // With 8 rows the product is transposed, y^T = W^T x^T: W fills the 16-row operand of the mma
    // and x the 8-column one, so that no row of the tensor core is wasted.
    static constexpr bool kTransposed = kBlockM == 8;
    static constexpr int kTilesM = kTransposed ? 1 : kBlockM / 16;
    // Accumulator fragments of a warp for one tile of M.
    static constexpr int kTilesAcc = kTransposed ? kTilesN : 2 * kTilesN;
    // Two CTAs an SM hide each other's latencies while the accumulators leave registers for it.
    static constexpr int kBlocksPerSm = kBlockM <= 16 ? 2 : 1;
    // Register double buffering: how many stages ahead of the multiplication fragments are loaded,
    // where the register file has room for a second set.
    static constexpr int kFragmentsAhead = kBlockM == 8 || kBlockM == 32 ? 1 : 0;

    // What SharedStorage takes (sm80.cuh), in the grouped case, which is the larger one.
    static constexpr int kStageBytes =
        2 * kBlockM * kBlockK + kBlockK * kBlockN / 2 + kBlockK / 32 * kBlockN * 2;
    static constexpr int kExchangeBytes = (kWarpsK > 1 ? kWarps / 2 : kWarps) * kTilesAcc * 32 * 16;
    static constexpr int kSharedBytes = kStages * kStageBytes + kExchangeBytes;

    static_assert(kBlockN % 64 == 0 && 64 % kWarpN == 0 && kWarps % kWarpsN == 0);
    static_assert(kBlockM == 8 || kBlockM % 16 == 0);
    static_assert(!kTransposed || kWarpN == 64);
    static_assert(kSlabK == 32,
                  "a slab lies in one group for every group size that is a multiple "
                  "of 32, and x^T fragments are loaded 32 rows at a time");
};

template <class Tile_, class Format_, bool kGrouped_>
struct Sm80Config : Tile_ {
    using Tile = Tile_;
    using Format = Format_;
    // Grouped: every slab's sum is scaled before it is accumulated. Otherwise one scale a column,
    // applied to the finished sum.
    static constexpr bool kGrouped = kGrouped_;
};

// The tile table. Order matters only for ties in select().
#define TARPON_W4_GEMM_SM80_TILES(X) \
    X(8, 128, 128, 64)               \
    X(16, 128, 128, 64)              \
    X(32, 64, 256, 64)               \
    X(48, 32, 256, 32)               \
    X(64, 32, 256, 32)

struct TileShape {
    int block_m, block_k, block_n, stages, blocks_per_sm, shared_bytes;
};

template <class Tile>
constexpr TileShape tile_shape() {
    return {Tile::kBlockM, Tile::kBlockK,      Tile::kBlockN,
            Tile::kStages, Tile::kBlocksPerSm, Tile::kSharedBytes};
}

#define TARPON_W4_GEMM_SHAPE(m, k, n, warp_n) tile_shape<Sm80Tile<m, k, n, warp_n>>(),
inline constexpr auto kSm80Tiles = std::to_array({TARPON_W4_GEMM_SM80_TILES(TARPON_W4_GEMM_SHAPE)});
#undef TARPON_W4_GEMM_SHAPE

inline constexpr int kMinGroupSize = 32;

// ---- The choice ---------------------------------------------------------------------------------

struct Problem {
    int64_t m, n, k;
    int64_t groups;  // 1: one scale a column
};

struct DeviceProps {
    int sm_count;
    int compute_capability;  // 10 * major + minor
};

// One launch: `grid` CTAs, of which number i computes the stage tiles
// [i * stripe_tiles, (i + 1) * stripe_tiles) of the work list (see README.md, "Stripes").
struct Choice {
    int tile;  // index into kSm80Tiles
    int grid;
    int stripe_tiles;
    double predicted_us;
};

// What the cost model knows of an architecture: data sheets' figures, per SM and clock.
struct ArchModel {
    int compute_capability;
    double ghz;
    double dram_bytes_per_clock;  // of one SM's share
    double l2_bytes_per_clock;
    double mma_fma_per_clock;  // mma.sync with fp32 accumulation
    int shared_kib;            // of an SM
};

// The newest entry that is not newer than the device.
constexpr ArchModel arch_model(int compute_capability) {
    constexpr ArchModel kModels[] = {
        {80, 1.41, 10.2, 40, 1024, 164},   // A100: 1555 GB/s, 108 SMs
        {86, 1.70, 6.5, 28, 256, 100},     // RTX 3090: 936 GB/s, 82 SMs
        {89, 2.50, 3.2, 24, 256, 100},     // RTX 4090: 1008 GB/s, 128 SMs
        {90, 1.75, 20.0, 40, 1280, 228},   // H200: 4800 GB/s, 132 SMs; mma.sync at 62% of wgmma
        {100, 1.85, 29.0, 45, 1024, 228},  // B200: 8000 GB/s, 148 SMs
        {120, 2.40, 4.4, 24, 256, 100},    // RTX 5090: 1792 GB/s, 170 SMs
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

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Tiles with more rows than this are never chosen for m: it keeps the workspace of few rows small.
constexpr int largest_block_m(int64_t m) {
    int largest = 0;
    for (const TileShape &tile : kSm80Tiles) {
        if (tile.block_m >= m) return tile.block_m;
        largest = tile.block_m;
    }
    return largest;
}

struct Partition {
    int64_t k_tiles, columns;  // a column is the run of k_tiles stage tiles of one block of y
    constexpr int64_t total() const { return k_tiles * columns; }
};

constexpr Partition partition(const Problem &problem, const TileShape &tile) {
    return {ceil_div(problem.k, tile.block_k),
            ceil_div(problem.m, tile.block_m) * ceil_div(problem.n, tile.block_n)};
}

// How many stripes share the column that is cut most.
constexpr int64_t most_slices(int64_t k_tiles, int64_t stripe_tiles) {
    if (stripe_tiles % k_tiles == 0) return 1;
    if (k_tiles % stripe_tiles == 0) return k_tiles / stripe_tiles;
    return ceil_div(k_tiles - 1, stripe_tiles) + 1;
}

// Microseconds that a launch takes, by a model of one SM's clocks:
//   stage   weights from DRAM, weights and x from L2, mma and instruction issue overlap, though not
//           perfectly; CTAs on one SM share all four. A CTA alone gets its next stage no sooner
//           than the DRAM's latency over the stages that it has in flight;
//   stripes every CTA runs stripe_tiles stages, after filling its pipeline once;
//   sums    a column cut into s stripes is summed by one CTA: s - 1 partials read from L2, after a
//           wait for the last; every other CTA writes one.
constexpr double predict_us(const Problem &problem, const TileShape &tile, int64_t grid,
                            int64_t stripe_tiles, const DeviceProps &device) {
    constexpr double kLaunchUs = 2.0;           // empty kernel in a graph
    constexpr double kFillClocks = 1500;        // first stage from DRAM, and the last store
    constexpr double kLatencyClocks = 1700;     // of DRAM under load
    constexpr double kHandOverClocks = 900;     // flag and data through L2
    constexpr double kOverlapLoss = 0.15;       // of what is hidden
    constexpr double kMissedSharing = 0.5;      // of weights that blocks of rows read side by side
    constexpr double kDequantIssue = 11.0 / 8;  // instructions a weight, over a lane's 8 weights
    constexpr double kIssuePerClock = 128;      // 4 schedulers x 32 lanes
    const ArchModel arch = arch_model(device.compute_capability);
    const double block_m = tile.block_m, block_k = tile.block_k, block_n = tile.block_n;
    const double per_sm = static_cast<double>(ceil_div(grid, device.sm_count));
    const double m_blocks = static_cast<double>(ceil_div(problem.m, tile.block_m));
    const double weights = block_k * block_n, weight_bytes = weights / 2;
    const double products = block_m * weights;
    const double busy = std::min(static_cast<double>(grid) / device.sm_count, 1.0);
    const double from_dram = weight_bytes * (1 + kMissedSharing * (m_blocks - 1)) / m_blocks;
    const double dram = from_dram * busy / arch.dram_bytes_per_clock;
    const double l2 = (weight_bytes + 2 * block_m * block_k) / arch.l2_bytes_per_clock;
    const double mma = products / arch.mma_fma_per_clock;
    const double scaling = problem.groups == 1 ? 0 : products / 32;  // one fma a slab of 32 rows
    const double mma_issue = products / 2048 * 32;
    const double issue = (weights * kDequantIssue + scaling + mma_issue) / kIssuePerClock;
    const double longest = std::max({dram, l2, mma, issue});
    const double shared = longest + kOverlapLoss * (dram + l2 + mma + issue - longest);
    const double stage = std::max(shared * per_sm, kLatencyClocks / (tile.stages - 1));
    const int64_t k_tiles = ceil_div(problem.k, tile.block_k);
    const int64_t slices = most_slices(k_tiles, stripe_tiles);
    const double partial_bytes = 4 * block_m * block_n * per_sm;
    const double sum = slices == 1 ? 0
                                   : kHandOverClocks + static_cast<double>(slices) * partial_bytes /
                                                           arch.l2_bytes_per_clock;
    const double clocks = kFillClocks + stage * static_cast<double>(stripe_tiles) + sum;
    return kLaunchUs + clocks / (1e3 * arch.ghz);
}

// The rows that one launch may have, a multiple of 8: stage tiles are counted in 30 bits.
constexpr int64_t max_rows(int64_t n, int64_t k) {
    int64_t most = int64_t{1} << 30;
    for (const TileShape &tile : kSm80Tiles) {
        const int64_t per_block = ceil_div(k, tile.block_k) * ceil_div(n, tile.block_n);
        most = std::min(most, (int64_t{1} << 30) / per_block * 8);
    }
    return most;
}

// The cheapest launch for a problem with m, n, k >= 1, m <= max_rows(n, k).
constexpr Choice select(const Problem &problem, const DeviceProps &device) {
    Choice best{-1, 0, 0, 0};
    for (int i = 0; i < static_cast<int>(kSm80Tiles.size()); ++i) {
        const TileShape &tile = kSm80Tiles[i];
        if (tile.block_m > largest_block_m(problem.m)) continue;
        const Partition work = partition(problem, tile);
        // From one wave of all SMs' slots down: fewer, longer stripes have fewer partials to add.
        const int64_t slots = resident_blocks(tile, device);
        for (int64_t divisor = 1; divisor <= 8; divisor *= 2) {
            const int64_t most = std::max<int64_t>(std::min(work.total(), slots) / divisor, 1);
            const int64_t even = ceil_div(work.total(), most);
            // The next longer stripe that cuts all columns at the same places, into fewer slices.
            const int64_t aligned = even < work.k_tiles
                                        ? ceil_div(work.k_tiles, work.k_tiles / even)
                                        : ceil_div(even, work.k_tiles) * work.k_tiles;
            for (const int64_t stripe_tiles : {even, aligned}) {
                const int64_t grid = ceil_div(work.total(), stripe_tiles);
                const double us = predict_us(problem, tile, grid, stripe_tiles, device);
                if (best.tile < 0 || us < best.predicted_us) {
                    best = {i, static_cast<int>(grid), static_cast<int>(stripe_tiles), us};
                }
            }
        }
    }
    return best;
}

// ---- Workspace ----------------------------------------------------------------------------------

// One flag and one partial block of y for every CTA of the largest grid that select() can return.
inline constexpr int64_t kFlagBytes = 8;
inline constexpr int64_t kWorkspaceAlign = 256;

constexpr int64_t flags_bytes(int64_t grid) {
    return ceil_div(grid * kFlagBytes, kWorkspaceAlign) * kWorkspaceAlign;
}

constexpr int64_t launch_workspace_bytes(const TileShape &tile, int64_t grid) {
    return flags_bytes(grid) + grid * tile.block_m * tile.block_n * 4;
}

// Enough for every launch that select() returns for up to m rows; never shrinks as m grows.
constexpr int64_t workspace_bytes(const Problem &problem, const DeviceProps &device) {
    if (problem.m <= 0) return 0;
    int64_t bytes = 0;
    for (const TileShape &tile : kSm80Tiles) {
        if (tile.block_m > largest_block_m(problem.m)) continue;
        const int64_t slots = resident_blocks(tile, device);
        const int64_t grid = std::min(partition(problem, tile).total(), slots);
        bytes = std::max(bytes, launch_workspace_bytes(tile, grid));
    }
    return bytes;
}

}  // namespace tarpon::w4_gemm
