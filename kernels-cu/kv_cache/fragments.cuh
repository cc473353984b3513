// From codes in shared memory to operands of mma.m16n8k16, for a tile of 16 keys: scores
// S[16 keys, 8 columns] += K q, and values O[16 channels, 8 columns] += V^T w. The low-bit operand
// is A both times; its rows and its inner dimension may be in any order that the other operand
// shares, and the orders below are those in which the page format needs the fewest instructions.
//
// Codes become multiplicands by one AND for two of them: a code c in bits p .. p + b - 1 of a half
// of a register, with p + b <= 10, is the binary16 subnormal c * 2^(p - 24), which tensor cores
// multiply exactly. The factor 2^p is taken out of q beforehand and out of O afterwards.
//
// Let g = lane / 4 and m = lane % 4 (layout::MmaM16N8K16). Row g of a tile of scores is the key 2g,
// row g + 8 the key 2g + 1: a lane reads words of both with one access.
#pragma once

#include "common/ptx.cuh"
#include "kv_cache/config.h"

namespace tarpon::kv_cache {

// A code lies in a byte of its half, so that these shifts p are left; width 3 uses those of its
// lower plane, and its upper bit goes above them.
TARPON_LAYOUT int code_width(int bits) {
    return bits == 3 ? 2 : bits;
}
TARPON_LAYOUT int codes_per_byte(int bits) {
    return 8 / code_width(bits);
}

// Ones in the bits of code `j` of the low byte of both halves.
TARPON_LAYOUT uint32_t code_mask(int width, int j) {
    return ((1u << width) - 1) * 0x00010001u << (width * j);
}

TARPON_DEVICE uint32_t shift_left(uint32_t x, int count) {
    return count >= 0 ? x << count : x >> -count;
}

// ---- Keys -------------------------------------------------------------------------------------
// Step s of the inner dimension takes the lane's pairs 2s and 2s + 1. Pair i is, below width 16,
// code j = i % codes_per_byte of byte y of both halves of a word; a lane goes through the words
// m, m + 4, .. and takes both bytes of each. (head_dim 96 has six words at width 2: of the last
// two, a lane takes one byte.)

struct KPlace {
    int word, byte, j;
};

TARPON_LAYOUT KPlace k_place(int head_dim, int bits, int pair, int m) {
    const int units = head_dim * code_width(bits) / 64;  // bytes of both halves, of a lane
    const int unit = pair / codes_per_byte(bits), j = pair % codes_per_byte(bits);
    if (unit % 2 == 0 && unit + 1 == units) return {4 * (unit / 2) + m / 2, m % 2, j};
    return {4 * (unit / 2) + m, unit % 2, j};
}

// The channel of half `half` of a pair, and the shift p that its code keeps.
struct KChannel {
    int channel, shift;
};

TARPON_LAYOUT KChannel k_channel(int head_dim, int bits, int pair, int m, int half) {
    if (bits == 16) return {16 * (pair / 2) + 8 * (pair % 2) + 2 * m + half, 0};
    const int width = code_width(bits);
    const KPlace at = k_place(head_dim, bits, pair, m);
    return {at.word * (32 / width) + (16 * half + 8 * at.byte + width * at.j) / width,
            width * at.j};
}

// Words of the keys 2g and 2g + 1 of a tile.
TARPON_DEVICE u32x2 key_words(const uint8_t *tile, int word) {
    return ptx::ld_shared(
        reinterpret_cast<const u32x2 *>(tile + 4 * (kTileTokens * word + ptx::lane_id() / 4 * 2)));
}

// [warp] Codes of a tile of keys, `tile` and `upper` (width 3) as in a page. `multiply(step, a)` is
// called with the A operand of each step.
template <int kHeadDim, int kBits, class Multiply>
TARPON_DEVICE void each_key_step(const uint8_t *tile, const uint8_t *upper, Multiply multiply) {
    const int m = ptx::lane_id() % 4;
    if constexpr (kBits == 16) {
        TARPON_UNROLL
        for (int step = 0; step < kHeadDim / 16; ++step) {
            const u32x2 low = key_words(tile, 8 * step + m),
                        high = key_words(tile, 8 * step + 4 + m);
            multiply(step, {low.x, low.y, high.x, high.y});
        }
    } else {
        constexpr int kWidth = code_width(kBits), kPairs = codes_per_byte(kBits);
        constexpr int kUnits = kHeadDim * kWidth / 64;
        uint32_t a[4];
        TARPON_UNROLL
        for (int unit = 0; unit < kUnits; ++unit) {
            const KPlace at = k_place(kHeadDim, kBits, unit * kPairs, m);
            const u32x2 words = key_words(tile, at.word);
            const int shift = 8 * at.byte;
            const u32x2 codes = {words.x >> shift, words.y >> shift};
            u32x2 tops{0,
                       0};  // width 3: the upper bit of code j of this byte in bit j of each half
            if constexpr (kBits == 3) {
                const u32x2 bits = key_words(upper, at.word / 2);
                const uint32_t selector = at.word % 2 ? 0x4342 : 0x4140;
                tops = {ptx::prmt(bits.x, 0, selector) >> 4 * at.byte,
                        ptx::prmt(bits.y, 0, selector) >> 4 * at.byte};
            }
            TARPON_UNROLL
            for (int j = 0; j < kPairs; ++j) {
                const int pair = unit * kPairs + j, reg = 2 * (pair % 2);
                const uint32_t mask = code_mask(kWidth, j);
                a[reg] = codes.x & mask, a[reg + 1] = codes.y & mask;
                if constexpr (kBits == 3) {
                    const uint32_t top = code_mask(1, 2 * j + 2);
                    a[reg] |= tops.x << (j + 2) & top;
                    a[reg + 1] |= tops.y << (j + 2) & top;
                }
                if (pair % 2 == 1) multiply(pair / 2, {a[0], a[1], a[2], a[3]});
            }
        }
    }
}

// ---- Rows of binary16 -------------------------------------------------------------------------
// Values of width 16, and keys of the recent store. The tokens of a tile lie with the even ones
// first, so that ldmatrix finds the key 2g in row g.

TARPON_LAYOUT int half_row(int token) {
    return token / 16 * 16 + token % 2 * 8 + token % 16 / 2;
}

template <int kHeadDim>
TARPON_DEVICE const uint8_t *half_chunk(const uint8_t *tile, int row, int chunk) {
    return tile + row * (2 * kHeadDim + kRowPadBytes) + 16 * chunk;
}

template <int kHeadDim, class Multiply>
TARPON_DEVICE void each_key_row_step(const uint8_t *tile, Multiply multiply) {
    const int lane = ptx::lane_id();
    TARPON_UNROLL
    for (int step = 0; step < kHeadDim / 16; ++step) {
        uint32_t a[4];
        ptx::ldmatrix_x4(a, half_chunk<kHeadDim>(tile, lane % 16, 2 * step + lane / 16));
        multiply(step, a);
    }
}

// ---- Values -----------------------------------------------------------------------------------
// Below width 16 a lane reads a run of head_dim / 8 codes of each of the keys 4m .. 4m + 3: the
// operand's inner pairs are (4m, 4m + 2) and (4m + 1, 4m + 3), as movmatrix makes them of the
// scores. Tile i of the output has codes 2i and 2i + 1 of the runs in its rows g and g + 8.

// The channel of code `k` of lane group g, and the shift p it keeps.
TARPON_LAYOUT KChannel v_run_channel(int head_dim, int bits, int k, int g) {
    if (bits == 16) return {8 * k + g, 0};
    const int field = g * (head_dim / 32) + k / 4;  // format.h: fields of four codes
    return {kChunkChannels * (field / kChunkLanes) + field % kChunkLanes + kChunkLanes * (k % 4),
            code_width(bits) * (k % codes_per_byte(bits))};
}

// Whether four keys' rows take a multiple of 128 bytes: then all lanes would read the same banks,
// and 32-byte blocks are permuted by XOR with the number of the four (copies and reads alike).
TARPON_LAYOUT bool v_is_swizzled(int head_dim, int width) {
    const int row_bytes = head_dim * width / 8;
    return row_bytes % 32 == 0 && (row_bytes & (row_bytes - 1)) == 0;
}

// Reads `kCount` bytes that begin at a multiple of kAlign bytes, as words.
template <int kCount, int kAlign>
TARPON_DEVICE void load_bytes(const uint8_t *from, uint32_t (&words)[(kCount + 3) / 4]) {
    if constexpr (kCount % 16 == 0 && kAlign % 16 == 0) {
        TARPON_UNROLL
        for (int i = 0; i < kCount / 4; i += 4) {
            const u32x4 q = ptx::ld_shared(reinterpret_cast<const u32x4 *>(from + 4 * i));
            words[i] = q.x, words[i + 1] = q.y, words[i + 2] = q.z, words[i + 3] = q.w;
        }
    } else if constexpr (kCount % 8 == 0 && kAlign % 8 == 0) {
        TARPON_UNROLL
        for (int i = 0; i < kCount / 4; i += 2) {
            const u32x2 q = ptx::ld_shared(reinterpret_cast<const u32x2 *>(from + 4 * i));
            words[i] = q.x, words[i + 1] = q.y;
        }
    } else if constexpr (kCount % 4 == 0 && kAlign % 4 == 0) {
        TARPON_UNROLL
        for (int i = 0; i < kCount / 4; ++i)
            words[i] = ptx::ld_shared(reinterpret_cast<const uint32_t *>(from + 4 * i));
    } else {
        constexpr int kStep = kCount % 2 == 0 && kAlign % 2 == 0 ? 2 : 1;
        using Part = std::conditional_t<kStep == 2, uint16_t, uint8_t>;
        TARPON_UNROLL
        for (int i = 0; i < kCount; i += kStep) {
            const uint32_t part = ptx::ld_shared(reinterpret_cast<const Part *>(from + i));
            words[i / 4] = i % 4 == 0 ? part : words[i / 4] | part << (8 * (i % 4));
        }
    }
}

// A lane's runs of `kWidth` bits a code of its four keys, joined: pairs[i][h] has the h-th 16 bits
// of the run of the keys 4m + i (low half) and 4m + i + 2.
template <int kHeadDim, int kWidth>
struct ValueRuns {
    static constexpr int kBits = kHeadDim / 8 * kWidth;
    static constexpr int kHalves = (kBits + 15) / 16;
    uint32_t pairs[2][kHalves];

    TARPON_DEVICE void load(const uint8_t *tile) {
        constexpr int kRowBytes = kHeadDim * kWidth / 8, kRunBytes = (kBits + 7) / 8;
        const int g = ptx::lane_id() / 4, m = ptx::lane_id() % 4;
        uint32_t words[4][(kRunBytes + 3) / 4];
        TARPON_UNROLL
        for (int i = 0; i < 4; ++i) {
            int at = (4 * m + i) * kRowBytes + g * kBits / 8;
            if constexpr (v_is_swizzled(kHeadDim, kWidth)) at ^= m << 5;
            // A run of width 1 and head_dim 96 begins in the middle of a byte.
            constexpr int kAlign = kBits % 8 != 0 ? 1 : kRunBytes & -kRunBytes;
            load_bytes<kRunBytes, kAlign>(tile + at, words[i]);
            if constexpr (kBits % 8 != 0) words[i][0] >>= g * kBits % 8;
        }
        TARPON_UNROLL
        for (int h = 0; h < kHalves; ++h) {
            TARPON_UNROLL
            for (int i = 0; i < 2; ++i) {
                pairs[i][h] =
                    ptx::prmt(words[i][h / 2], words[i + 2][h / 2], h % 2 ? 0x7632 : 0x5410);
            }
        }
    }
};

// [warp] The same of a tile of values; tiles of the output instead of steps.
template <int kHeadDim, int kBits, class Multiply>
TARPON_DEVICE void each_value_tile(const uint8_t *tile, const uint8_t *upper, Multiply multiply) {
    if constexpr (kBits == 16) {
        const int lane = ptx::lane_id();
        TARPON_UNROLL
        for (int i = 0; i < kHeadDim / 16; ++i) {
            uint32_t a[4];
            ptx::ldmatrix_x4_trans(
                a, half_chunk<kHeadDim>(tile, lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2));
            multiply(i, a);
        }
    } else {
        constexpr int kWidth = code_width(kBits), kPerHalf = 16 / kWidth;
        ValueRuns<kHeadDim, kWidth> runs;
        runs.load(tile);
        ValueRuns<kHeadDim, 1> tops;
        if constexpr (kBits == 3) tops.load(upper);
        const auto code = [&](int pair, int k) {
            const int byte = k % kPerHalf / codes_per_byte(kBits), j = k % codes_per_byte(kBits);
            uint32_t x = runs.pairs[pair][k / kPerHalf] >> 8 * byte & code_mask(kWidth, j);
            if constexpr (kBits == 3)
                x |= shift_left(tops.pairs[pair][k / 16], 2 * j + 2 - k % 16) &
                     code_mask(1, 2 * j + 2);
            return x;
        };
        TARPON_UNROLL
        for (int i = 0; i < kHeadDim / 16; ++i)
            multiply(i, {code(0, 2 * i), code(0, 2 * i + 1), code(1, 2 * i), code(1, 2 * i + 1)});
    }
}

}  // namespace tarpon::kv_cache
