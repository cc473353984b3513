// Weight packing for the W4 GEMM: plain order <-> MARLIN order. Plain host C++, header-only.
//
// Callers: tarpon_marlin_* in native/src/abi.cc, the GPU plan (native/src/cuda/linear.cc) and the
// tests. Run alone: `w4_gemm_host_test`.
//
// Plain order:  codes uint8 [K, N], each 0..15; scales binary16 [groups, N].
// MARLIN order: qweight int32 [Kp/16, 2*Np]; scales binary16 [groups, Np], permuted.
//               Kp and Np are the next multiples of 16 and 64; see README.md for the drawing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tarpon::w4_gemm {

// A unit is what one warp loads with one 16-byte access per lane: four adjacent 16x16 tiles.
inline constexpr int kUnitK = 16;
inline constexpr int kUnitN = 64;
inline constexpr int kUnitTiles = kUnitN / 16;
inline constexpr int kUnitWords = 32 * kUnitTiles;
inline constexpr uint8_t kZeroCode = 8;  // the code of weight 0: codes are stored with a bias of 8

// Where nibble `nibble` (0 = lowest) of lane `lane`'s word for one 16x16 tile comes from.
//
// The lane's four B values of mma.m16n8k16 for the n-half b (columns 8b..8b+7 of the tile) are
// W[k, 8b + lane/4] with k = 2*(lane%4) + {0, 1, 8, 9}. A nibble and the one four places up are the
// two halves of one fragment register, because the kernel extracts nibbles i and i+4 with a single
// mask (0x000f000f << 4i).
struct TileCoord {
    int k, n;
};
constexpr TileCoord marlin_tile_coord(int lane, int nibble) {
    const int pair = nibble % 4;   // register: n-half pair / 2, k-half pair % 2
    const int upper = nibble / 4;  // half of the register: the odd k
    return {2 * (lane % 4) + upper + 8 * (pair % 2), lane / 4 + 8 * (pair / 2)};
}

// Which column of a 64-column span is at position `pos` of the packed scales.
//
// Grouped scales multiply B fragments: a lane reads the 8 scales of its columns lane/4 + 8j with
// one 16-byte load. A single group multiplies the accumulators instead: a lane reads the 8 scales
// of the columns 2*(lane%4) + {0, 1} + 8j that its C fragments hold.
constexpr int marlin_scale_column(int pos, bool single_group) {
    if (!single_group) return pos / 8 + 8 * (pos % 8);
    const int span = pos / 32 * 32;
    const int lane4 = pos % 32 / 8;
    const int value = pos % 8;
    return span + 2 * lane4 + value % 2 + 8 * (value / 2);
}

// The same for all Np columns.
constexpr int64_t marlin_scale_source(int64_t pos, bool single_group) {
    const int within = static_cast<int>(pos % kUnitN);
    return pos - within + marlin_scale_column(within, single_group);
}

struct MarlinSize {
    size_t qweight_words;  // int32
    size_t scales_elems;   // binary16
    int64_t k_padded, n_padded;
};

constexpr MarlinSize marlin_size(int64_t n, int64_t k, int64_t groups) {
    const int64_t k_padded = (k + kUnitK - 1) / kUnitK * kUnitK;
    const int64_t n_padded = (n + kUnitN - 1) / kUnitN * kUnitN;
    return {static_cast<size_t>(k_padded / kUnitK) * static_cast<size_t>(2 * n_padded),
            static_cast<size_t>(groups) * static_cast<size_t>(n_padded), k_padded, n_padded};
}

// Index of the first code that does not fit four bits, or -1.
inline int64_t find_invalid_code(const uint8_t *codes, int64_t count) {
    constexpr int64_t kBlock = 4096;
    for (int64_t begin = 0; begin < count; begin += kBlock) {
        const int64_t end = count - begin < kBlock ? count : begin + kBlock;
        unsigned any = 0;
        for (int64_t i = begin; i < end; ++i)
            any |= codes[i];
        if (any <= 15) continue;
        for (int64_t i = begin; i < end; ++i) {
            if (codes[i] > 15) return i;
        }
    }
    return -1;
}

namespace detail {

// One unit in plain order: rows of K, columns of N.
using UnitCodes = uint8_t[kUnitK][kUnitN];

inline void pack_unit(const UnitCodes &unit, int32_t *words) {
    for (int lane = 0; lane < 32; ++lane) {
        for (int tile = 0; tile < kUnitTiles; ++tile) {
            uint32_t word = 0;
            for (int nibble = 0; nibble < 8; ++nibble) {
                const TileCoord at = marlin_tile_coord(lane, nibble);
                word |= static_cast<uint32_t>(unit[at.k][16 * tile + at.n]) << (4 * nibble);
            }
            words[kUnitTiles * lane + tile] = static_cast<int32_t>(word);
        }
    }
}

inline void unpack_unit(const int32_t *words, UnitCodes &unit) {
    for (int lane = 0; lane < 32; ++lane) {
        for (int tile = 0; tile < kUnitTiles; ++tile) {
            uint32_t word;
            std::memcpy(&word, words + kUnitTiles * lane + tile, sizeof word);
            for (int nibble = 0; nibble < 8; ++nibble) {
                const TileCoord at = marlin_tile_coord(lane, nibble);
                unit[at.k][16 * tile + at.n] = static_cast<uint8_t>(word >> (4 * nibble) & 15);
            }
        }
    }
}

}  // namespace detail

// Codes must be 0..15. qweight has marlin_size(n, k, 1).qweight_words words.
inline void marlin_pack_codes(const uint8_t *codes, int64_t n, int64_t k, int32_t *qweight) {
    const MarlinSize size = marlin_size(n, k, 1);
    detail::UnitCodes unit;
    for (int64_t k0 = 0; k0 < size.k_padded; k0 += kUnitK) {
        const int rows = static_cast<int>(k - k0 < kUnitK ? k - k0 : kUnitK);
        for (int64_t n0 = 0; n0 < size.n_padded; n0 += kUnitN) {
            const int cols = static_cast<int>(n - n0 < kUnitN ? n - n0 : kUnitN);
            if (rows < kUnitK || cols < kUnitN) std::memset(unit, kZeroCode, sizeof(unit));
            for (int row = 0; row < rows; ++row) {
                std::memcpy(unit[row], codes + (k0 + row) * n + n0, static_cast<size_t>(cols));
            }
            detail::pack_unit(unit, qweight);
            qweight += kUnitWords;
        }
    }
}

// scales_packed has marlin_size(n, 1, groups).scales_elems elements. The GPU kernels take the order
// for groups (single_group = false) in any case; the exchange format does not.
inline void marlin_pack_scales(const uint16_t *scales, int64_t n, int64_t groups, bool single_group,
                               uint16_t *scales_packed) {
    const MarlinSize size = marlin_size(n, 1, groups);
    for (int64_t g = 0; g < groups; ++g) {
        for (int64_t i = 0; i < size.n_padded; ++i) {
            const int64_t column = marlin_scale_source(i, single_group);
            *scales_packed++ = column < n ? scales[g * n + column] : uint16_t{0};
        }
    }
}

inline void marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t n, int64_t k,
                        int64_t groups, int32_t *qweight, uint16_t *scales_packed) {
    marlin_pack_codes(codes, n, k, qweight);
    marlin_pack_scales(scales, n, groups, groups == 1, scales_packed);
}

// The exact inverse: padding is dropped. Packed words and scales need not be aligned.
inline void marlin_unpack(const int32_t *qweight, const uint16_t *scales_packed, int64_t n,
                          int64_t k, int64_t groups, uint8_t *codes, uint16_t *scales) {
    const MarlinSize size = marlin_size(n, k, groups);
    detail::UnitCodes unit;
    for (int64_t k0 = 0; k0 < size.k_padded; k0 += kUnitK) {
        const int rows = static_cast<int>(k - k0 < kUnitK ? k - k0 : kUnitK);
        for (int64_t n0 = 0; n0 < size.n_padded; n0 += kUnitN) {
            const int cols = static_cast<int>(n - n0 < kUnitN ? n - n0 : kUnitN);
            detail::unpack_unit(qweight, unit);
            qweight += kUnitWords;
            for (int row = 0; row < rows; ++row) {
                std::memcpy(codes + (k0 + row) * n + n0, unit[row], static_cast<size_t>(cols));
            }
        }
    }
    for (int64_t g = 0; g < groups; ++g) {
        for (int64_t i = 0; i < size.n_padded; ++i) {
            const int64_t column = marlin_scale_source(i, groups == 1);
            if (column < n)
                std::memcpy(scales + g * n + column, scales_packed, sizeof *scales_packed);
            ++scales_packed;
        }
    }
}

}  // namespace tarpon::w4_gemm
