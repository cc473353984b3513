// Tiles of the W4 GEMM kernels and their pipeline stages. Plain host C++ (kernels read the
// constants). How tiles cut a problem is in partition.h, the choice among them in select.h.
//
// Callers: partition.h, instances.cuh (which instantiates the tiles), the kernel itself for its
// constants.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "w4_gemm/format.h"

namespace tarpon::w4_gemm {

// ---- What the kernel is compiled for ------------------------------------------------------------

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

    static constexpr int kWarpsN = kBlockN / kWarpN;
    static constexpr int kWarpsK = kWarps / kWarpsN;
    static constexpr int kSlabK = kBlockK / kWarpsK;
    // Two CTAs an SM hide each other's latencies while the accumulators leave registers for it.
    static constexpr int kBlocksPerSm = kBlockM <= 16 ? 2 : 1;

    static_assert(kBlockN % 64 == 0 && 64 % kWarpN == 0 && kWarps % kWarpsN == 0);
    static_assert(kBlockM == 8 || kBlockM % 16 == 0);
    static_assert(kSlabK == 32,
                  "a slab lies in one group for every group size that is a multiple "
                  "of 32, and x^T fragments are loaded 32 rows at a time");
};

template <class Tile_, class Format_, bool kGrouped_>
struct Sm80Config : Tile_ {
    using Tile = Tile_;
    using Format = Format_;
    static constexpr bool kSparse = Format::kSparse;
    // With 8 rows the product is transposed, y^T = W^T x^T: W fills the 16-row operand of the mma
    // and x the 8-column one, so that no row of the tensor core is wasted. Sparse weights have to be
    // that operand, for any number of rows.
    static constexpr bool kTransposed = Tile::kBlockM == 8 || kSparse;
    static constexpr int kTileRows = kTransposed ? 8 : 16;  // of y, in an accumulator fragment
    static constexpr int kTilesM = Tile::kBlockM / kTileRows;
    static constexpr int kTilesN = Tile::kWarpN / 16;  // 16x16 tiles of W, or 32x16 sparse ones
    // Accumulator fragments of a warp for one tile of M.
    static constexpr int kTilesAcc = kTransposed ? kTilesN : 2 * kTilesN;
    static constexpr int kUnitRows = kSparse ? 32 : 16;          // of W, in a unit (pack.h)
    static constexpr int kSlabSteps = Tile::kSlabK / kUnitRows;  // mma steps along K
    // Grouped: every slab's sum is scaled before it is accumulated. Otherwise one scale a column,
    // applied to the finished sum.
    static constexpr bool kGrouped = kGrouped_;
    // Scales of two bytes are held in registers with the fragments; larger ones are read from
    // shared memory when they are used.
    static constexpr bool kScalesInRegisters = kGrouped && sizeof(typename Format::Scale) == 2;
    static constexpr bool kScalesInShared = kGrouped && !kScalesInRegisters;

    static constexpr int kStages =
        Format::kBits == 4 ? (Tile::kBlockK >= 64 ? 4 : 6) : (Tile::kBlockK >= 64 ? 3 : 4);
    // How many stages ahead of the multiplication fragments are loaded, where the register file has
    // room for them beside what the copies of a stage take. (The stage itself may be overwritten
    // then, so that nothing can be read from it while multiplying.)
    static constexpr int kFragmentsAhead =
        !kScalesInShared && (Tile::kBlockM == 8 || (kSparse && Tile::kBlockM != 16) ||
                             (Tile::kBlockM == 32 && Format::kBits == 4 && !Format::kZeros))
            ? 1
            : 0;

    // Of a stage's scales and zero points; what a config does without takes 16 bytes.
    static constexpr int kScaleRows = kGrouped ? Tile::kBlockK / kMinGroupSize : 1;
    static constexpr int kScaleColumns =
        kGrouped ? Tile::kBlockN : 16 / int(sizeof(typename Format::Scale));
    static constexpr int kZeroRows = Format::kZeros ? kScaleRows : 1;
    static constexpr int kZeroColumns = Format::kZeros ? Tile::kBlockN : 16;

    static constexpr int kMetadataBytes = kSparse ? Tile::kBlockK * Tile::kBlockN / 8 : 16;
    // What SharedStorage takes (sm80_stage.cuh).
    static constexpr int kStageBytes =
        2 * Tile::kBlockM * Tile::kBlockK +
        Tile::kBlockK * Tile::kBlockN / (kSparse ? 2 : 1) * Format::kBits / 8 + kMetadataBytes +
        kScaleRows * kScaleColumns * int(sizeof(typename Format::Scale)) + kZeroRows * kZeroColumns;
    // Half of the warps' accumulators of 16 rows while slabs are summed; later one fp32 tile of y
    // for each warp that stores. 8 floats between rows keep a fragment's rows in different banks.
    static constexpr int kSumBytes = Tile::kWarpsK > 1 ? Tile::kWarps / 2 * kTilesAcc * 32 * 16 : 0;
    static constexpr int kTileRowFloats = Tile::kWarpN + 8;
    static constexpr int kTileBytes = Tile::kWarpsN * kTileRows * kTileRowFloats * 4;
    static constexpr int kExchangeBytes = std::max(kSumBytes, kTileBytes);
    static constexpr int kSharedBytes =
        kStages * ((kStageBytes + 127) / 128 * 128) + (kExchangeBytes + 127) / 128 * 128;
    static_assert(kSharedBytes <= 99 * 1024, "sm_86, sm_89 and sm_120 have no more for a block");
};

// The tile table. Order matters only for ties in select(). The last one has 16 rows in the shape of
// the larger tiles, for deterministic launches (see slice_tiles()) and for 8 bits.
#define TARPON_W4_GEMM_SM80_TILES(X) \
    X(8, 128, 128, 64)               \
    X(16, 128, 128, 64)              \
    X(32, 64, 256, 64)               \
    X(48, 32, 256, 32)               \
    X(64, 32, 256, 32)               \
    X(16, 32, 256, 32)

struct TileShape {
    int block_m, block_k, block_n, warp_n, warps_k, stages, blocks_per_sm, shared_bytes;
};

inline constexpr int kTileCount = 6;

// Rarer kernels that would save little are left out: the tile of 48 rows (at most a quarter of the
// multiplications of 33 to 48 rows) for all formats but the most common; and for 8 bits those of 16
// and 32 rows with long stages, since the weights of a stage take the DRAM about as long as 64 rows
// take the tensor core. Offsets take registers that two CTAs an SM do not have in the longer tile of
// 16 rows (ptxas spills 20 to 56 bytes).
template <class Format, class Tile>
constexpr bool has_kernel() {
    if (Tile::kBlockM == 48) return std::is_same_v<Format, Int4Symmetric>;
    if (Tile::kBlockM == 16 && Tile::kWarpsK > 1 && Format::kOffsets) return false;
    return Format::kBits == 4 || Tile::kBlockM == 8 || Tile::kWarpsK == 1;
}

namespace detail {

template <class Config>
constexpr TileShape shape_of() {
    if (!has_kernel<typename Config::Format, typename Config::Tile>()) return {};
    return {Config::kBlockM, Config::kBlockK, Config::kBlockN,      Config::kWarpN,
            Config::kWarpsK, Config::kStages, Config::kBlocksPerSm, Config::kSharedBytes};
}

using TileShapes = std::array<TileShape, kTileCount>;

template <class Format, bool kGrouped>
constexpr TileShapes shapes_of() {
#define TARPON_W4_GEMM_SHAPE(m, k, n, warp_n) \
    shape_of<Sm80Config<Sm80Tile<m, k, n, warp_n>, Format, kGrouped>>(),
    return {TARPON_W4_GEMM_SM80_TILES(TARPON_W4_GEMM_SHAPE)};
#undef TARPON_W4_GEMM_SHAPE
}

#define TARPON_W4_GEMM_SHAPES(name) {shapes_of<name, false>(), shapes_of<name, true>()},
inline constexpr TileShapes kShapes[][2] = {TARPON_W4_GEMM_FORMATS(TARPON_W4_GEMM_SHAPES)};
#undef TARPON_W4_GEMM_SHAPES

}  // namespace detail

}  // namespace tarpon::w4_gemm
