// Codes of a vector, a byte each, to the words and rows of kernels-cu/kv_cache/format.h: eight
// bytes at a time in 64-bit registers. `width` bits of each code are taken, from bit `shift` up.
#pragma once

#include <cstring>

#include "kv_cache/format.h"

namespace tarpon::cpu {

inline uint64_t load_codes(const uint8_t *codes, int width, int shift) {
    uint64_t eight;
    std::memcpy(&eight, codes, sizeof eight);
    return eight >> shift & ((1u << width) - 1) * 0x0101010101010101ull;
}

// The codes of eight bytes side by side, the first lowest.
inline uint32_t squeeze(uint64_t eight, int width) {
    if (width == 1) return static_cast<uint32_t>(eight * 0x0102040810204080ull >> 56);
    if (width == 2) {
        eight = (eight | eight >> 6) & 0x000f000f000f000full;
        eight = (eight | eight >> 12) & 0x000000ff000000ffull;
        return static_cast<uint32_t>((eight | eight >> 24) & 0xffff);
    }
    eight = (eight | eight >> 4) & 0x00ff00ff00ff00ffull;
    eight = (eight | eight >> 8) & 0x0000ffff0000ffffull;
    return static_cast<uint32_t>(eight | eight >> 16);
}

// A token's words in a plane of K codes; width 1, 2, 4 or 8.
inline void pack_k_plane(const uint8_t *codes, int head_dim, int width, int shift, int token,
                         uint8_t *plane) {
    auto *words = reinterpret_cast<uint32_t *>(plane);
    for (int w = 0; w < kv_cache::k_plane_words(head_dim, width); ++w) {
        uint32_t word = 0;
        if (width == 8) {
            std::memcpy(&word, codes + 4 * w, sizeof word);
        } else {
            const int eights = 4 / width;  // of channels, in a word
            for (int i = 0; i < eights; ++i) {
                const uint8_t *eight = codes + 8 * (eights * w + i);
                word |= squeeze(load_codes(eight, width, shift), width) << 8 * width * i;
            }
        }
        words[kv_cache::k_word_index(head_dim, width, token, w)] = word;
    }
}

// A token's row of V codes; width 1, 2, 4 or 8.
inline void pack_v_row(const uint8_t *codes, int head_dim, int width, int shift, uint8_t *row) {
    for (int chunk = 0; chunk < head_dim; chunk += kv_cache::kChunkChannels) {
        uint64_t part[4];  // lanes' codes 0, 1, 2, 3
        for (int i = 0; i < 4; ++i)
            part[i] = load_codes(codes + chunk + 8 * i, width, shift);
        uint8_t *to = row + chunk * width / 8;
        if (width == 1) {
            const uint64_t nibbles = part[0] | part[1] << 1 | part[2] << 2 | part[3] << 3;
            const uint32_t word = squeeze(nibbles, 4);
            std::memcpy(to, &word, sizeof word);
        } else if (width == 2) {
            const uint64_t bytes = part[0] | part[1] << 2 | part[2] << 4 | part[3] << 6;
            std::memcpy(to, &bytes, sizeof bytes);
        } else if (width == 4) {
            const uint64_t lower = part[0] | part[1] << 4, upper = part[2] | part[3] << 4;
            for (int lane = 0; lane < 8; ++lane) {
                to[2 * lane] = static_cast<uint8_t>(lower >> 8 * lane);
                to[2 * lane + 1] = static_cast<uint8_t>(upper >> 8 * lane);
            }
        } else {
            for (int lane = 0; lane < 8; ++lane) {
                for (int i = 0; i < 4; ++i)
                    to[4 * lane + i] = static_cast<uint8_t>(part[i] >> 8 * lane);
            }
        }
    }
}

}  // namespace tarpon::cpu
