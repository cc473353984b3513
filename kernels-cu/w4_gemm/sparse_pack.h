// 2:4 sparse weights: plain order to the order of mma.sp, on the host. Header-only.
//
// Of each chunk of four input rows a column keeps at most two weights. The kept codes of 32 rows
// are 16 rows, packed like any 16 rows of dense weights (pack.h); beside them lie the places of the
// kept in their chunks, 2 bits each, so that a weight takes 2 + 1 bits in the mean.
//
// Sparse order: qweight  int32 [Kp/32, 2*Np], MARLIN order of the kept rows;
//               metadata uint32 [Kp/32, Np/64, 32 lanes, 2];
//               Kp and Np are the next multiples of 32 and 64. Scales as for dense weights.
//
// W^T is the sparse operand (mma.sp takes only its first one so), 16 columns of W a tile; a unit of
// 64 columns has four tiles. Word w of a lane's metadata serves the tiles 2w and 2w + 1: lanes 0
// and 1 of every four hold that of tile 2w (selector 0), lanes 2 and 3 that of tile 2w + 1.
//
// Source: Frantar et al., "MARLIN", section 3.4 (Sparse-MARLIN). Callers: native/src/cuda/linear.cc
// and tests; run alone: `w4_gemm_sparse_host_test`.
#pragma once

#include <vector>

#include "common/layout.h"
#include "w4_gemm/pack.h"

namespace tarpon::w4_gemm {

inline constexpr int kSparseUnitK = 32;  // rows of W, of which 16 are kept
inline constexpr int kChunkRows = 4;
inline constexpr int kMetadataWords = 2;  // a lane

// Which two rows of a chunk are kept, in increasing order. Zeros fill up where there are less.
struct Kept {
    int first, second;
};

// False if the chunk has more than two weights that are not zero. `codes` are `count` rows (1 to 4)
// of one column, `stride` apart.
inline bool find_kept(const uint8_t *codes, int64_t stride, int count, Kept &kept) {
    int rows[kChunkRows], found = 0;
    for (int row = 0; row < count; ++row) {
        if (codes[row * stride] != kZeroCode) rows[found++] = row;
    }
    if (found > 2) return false;
    if (found == 0) {
        kept = {0, 1};
    } else if (found == 1) {
        kept = rows[0] == 0 ? Kept{0, 1} : Kept{0, rows[0]};
    } else {
        kept = {rows[0], rows[1]};
    }
    return true;
}

// The first chunk, as the row it begins at and its column, that breaks the pattern; {-1, -1}: none.
struct ChunkCoord {
    int64_t row, column;
};
inline ChunkCoord find_dense_chunk(const uint8_t *codes, int64_t n, int64_t k) {
    Kept kept;
    for (int64_t row = 0; row < k; row += kChunkRows) {
        const int count = static_cast<int>(k - row < kChunkRows ? k - row : kChunkRows);
        for (int64_t column = 0; column < n; ++column) {
            if (!find_kept(codes + row * n + column, n, count, kept)) return {row, column};
        }
    }
    return {-1, -1};
}

struct SparseWeights {
    std::vector<int32_t> qweight;
    std::vector<uint32_t> metadata;
};

// Codes must be 0..15 and have the pattern.
inline SparseWeights sparse_pack(const uint8_t *codes, int64_t n, int64_t k) {
    using Map = layout::MmaSparseM16N8K32;
    const int64_t k_units = (k + kSparseUnitK - 1) / kSparseUnitK;
    const int64_t n_units = (n + kUnitN - 1) / kUnitN;
    const int64_t kept_rows = k_units * kUnitK;
    std::vector<uint8_t> kept_codes(static_cast<size_t>(kept_rows * n), kZeroCode);
    SparseWeights out;
    out.metadata.resize(static_cast<size_t>(k_units * n_units * 32 * kMetadataWords));
    for (int64_t chunk = 0; chunk < k_units * Map::kChunks; ++chunk) {
        const int64_t row = chunk * kChunkRows;
        const int64_t left = k > row ? k - row : 0;
        const int count = static_cast<int>(left < kChunkRows ? left : kChunkRows);
        const int64_t unit_k = chunk / Map::kChunks;
        for (int64_t column = 0; column < n_units * kUnitN; ++column) {
            Kept kept{0, 1};
            if (column < n) {
                const uint8_t *source = codes + row * n + column;
                find_kept(source, n, count, kept);
                uint8_t *target = kept_codes.data() + 2 * chunk * n + column;
                if (kept.first < count) target[0] = source[kept.first * n];
                if (kept.second < count) target[n] = source[kept.second * n];
            }
            const int tile = static_cast<int>(column % kUnitN) / Map::kM;
            const auto at = Map::metadata(static_cast<int>(column % Map::kM),
                                          static_cast<int>(chunk % Map::kChunks), tile % 2);
            const int64_t lane = (unit_k * n_units + column / kUnitN) * 32 + at.lane;
            out.metadata[static_cast<size_t>(lane * kMetadataWords + tile / 2)] |=
                static_cast<uint32_t>(kept.first | kept.second << 2) << at.shift;
        }
    }
    out.qweight.resize(marlin_size(n, kept_rows, 1).qweight_words);
    marlin_pack_codes(kept_codes.data(), n, kept_rows, out.qweight.data());
    return out;
}

}  // namespace tarpon::w4_gemm
