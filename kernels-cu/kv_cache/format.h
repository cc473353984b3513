// The page formats of the KV cache: where every byte lies. Plain C++ shared by kernels, the CPU
// backend, the reference and the tests; README.md draws it.
//
// A page holds page_tokens consecutive tokens of one layer: a block for each kv head, and in it
// planes, each a multiple of 64 bytes. Version 1, mode tarpon:
//     K codes | K scales (binary16 [page_tokens]) | V codes | V scales (binary16 [page_tokens])
// Version 2, mode rotatekv, where scales and zero points are binary16 [groups][page_tokens] and
// groups are 128 channels of a head, or all of a smaller one:
//     K codes | K scales | K zero points | V codes | V scales | V zero points
// Planes of scales and zero points are absent (0 bytes) where the width is 16, whose "codes" are
// binary16 values.
//
// K codes are read for 16 tokens at a time, a channel after the other, so they are stored in tiles
// of 16 tokens: uint32 [words][16 tokens], word w of a token holding its channels w * (32 / b) + i
// in bits i * b. V codes are read a token at a time, 64 channels at once, so each token has a row
// of chunks of 32 channels; a chunk holds for lane l = 0..7 a field of 4 * b bits with the channels
// l + 8 * i in bits i * b. Both orders are little-endian. Width 3 is a plane of 2-bit codes (the
// lower bits of all) followed by a plane of 1-bit codes (the upper ones), each in these orders.
// Rows of width 16 are binary16 [head_dim] as they are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/layout.h"

namespace tarpon::kv_cache {

enum class Scheme { kTarpon, kRotatekv };

TARPON_LAYOUT int format_version(Scheme scheme) {
    return scheme == Scheme::kTarpon ? 1 : 2;
}

inline constexpr int kTileTokens = 16;     // of K codes
inline constexpr int kChunkChannels = 32;  // of V codes
inline constexpr int kChunkLanes = 8;
inline constexpr int kMaxHeadDim = 256;
inline constexpr int kGroupChannels = 128;  // of a scale and a zero point in mode rotatekv
inline constexpr int kMaxGroups = kMaxHeadDim / kGroupChannels;

struct Format {
    int head_dim;  // 64, 96, 128 or 256
    int kv_heads;
    int page_tokens;  // 64 or 128
    int k_bits;       // 2, 3, 4, 8 or 16
    int v_bits;       // likewise
    Scheme scheme = Scheme::kTarpon;
};

TARPON_LAYOUT bool has_scales(int bits) {
    return bits < 16;
}

TARPON_LAYOUT int code_bytes_per_token(int head_dim, int bits) {
    return head_dim * bits / 8;
}

// How many scales a token of a head has, for K as for V, and how many channels share one.
TARPON_LAYOUT int scale_groups(const Format &f) {
    return f.scheme == Scheme::kRotatekv && f.head_dim > kGroupChannels
               ? f.head_dim / kGroupChannels
               : 1;
}

TARPON_LAYOUT int group_channels(const Format &f) {
    return f.head_dim / scale_groups(f);
}

// Offsets of the planes of a head's block, and its size. A plane that is absent has the offset of
// the next.
struct BlockLayout {
    int k_codes, k_scales, k_zeros, v_codes, v_scales, v_zeros, bytes;
};

TARPON_LAYOUT BlockLayout block_layout(const Format &f) {
    const int scale_bytes = 2 * f.page_tokens * scale_groups(f);
    const int k_scale_bytes = has_scales(f.k_bits) ? scale_bytes : 0;
    const int v_scale_bytes = has_scales(f.v_bits) ? scale_bytes : 0;
    const bool zeros = f.scheme == Scheme::kRotatekv;
    const int k_scales = f.page_tokens * code_bytes_per_token(f.head_dim, f.k_bits);
    const int k_zeros = k_scales + k_scale_bytes;
    const int v_codes = k_zeros + (zeros ? k_scale_bytes : 0);
    const int v_scales = v_codes + f.page_tokens * code_bytes_per_token(f.head_dim, f.v_bits);
    const int v_zeros = v_scales + v_scale_bytes;
    return {
        0, k_scales, k_zeros, v_codes, v_scales, v_zeros, v_zeros + (zeros ? v_scale_bytes : 0)};
}

// Index of a group's scale, or zero point, of a token in its plane.
TARPON_LAYOUT int scale_index(const Format &f, int group, int token) {
    return group * f.page_tokens + token;
}

TARPON_LAYOUT size_t page_bytes(const Format &f) {
    return size_t(f.kv_heads) * size_t(block_layout(f).bytes);
}

// Bits a cached value takes, scales and zero points included.
TARPON_LAYOUT double bits_per_value(const Format &f) {
    return 8.0 * block_layout(f).bytes / (2.0 * f.page_tokens * f.head_dim);
}

// ---- K codes: words of a plane of `bits` wide codes (1, 2, 4, 8 or 16)

TARPON_LAYOUT int k_plane_words(int head_dim, int bits) {
    return head_dim * bits / 32;
}

// Index of word `word` of `token` within a plane's uint32 array.
TARPON_LAYOUT int k_word_index(int head_dim, int bits, int token, int word) {
    return (token / kTileTokens * k_plane_words(head_dim, bits) + word) * kTileTokens +
           token % kTileTokens;
}

// ---- V codes: rows

// The place of a channel's code in its token's row: byte offset of its lane's field, and the bit
// in it. For widths up to 8; fields of width 1 share bytes, so the bit counts from the even byte.
struct VPlace {
    int byte, bit;
};

TARPON_LAYOUT VPlace v_place(int bits, int channel) {
    const int lane = channel % kChunkLanes, i = channel % kChunkChannels / kChunkLanes;
    const int bit = (channel / kChunkChannels * kChunkChannels + 4 * lane + i) * bits;
    return {bit / 8, bit % 8};
}

// ---- Single codes, for the reference and for tests

namespace detail {

inline uint32_t k_plane_code(const uint8_t *plane, int head_dim, int bits, int token, int channel) {
    const int per_word = 32 / bits;
    const uint8_t *word = plane + 4 * k_word_index(head_dim, bits, token, channel / per_word);
    const int bit = channel % per_word * bits;
    const uint32_t pair = word[bit / 8] | (bits == 16 ? uint32_t(word[bit / 8 + 1]) << 8 : 0);
    return (pair >> bit % 8) & ((1u << bits) - 1);
}

inline void set_k_plane_code(uint8_t *plane, int head_dim, int bits, int token, int channel,
                             uint32_t code) {
    const int per_word = 32 / bits;
    uint8_t *word = plane + 4 * k_word_index(head_dim, bits, token, channel / per_word);
    const int bit = channel % per_word * bits;
    if (bits == 16) {
        word[bit / 8] = uint8_t(code);
        word[bit / 8 + 1] = uint8_t(code >> 8);
        return;
    }
    const uint32_t mask = ((1u << bits) - 1) << bit % 8;
    word[bit / 8] = uint8_t((word[bit / 8] & ~mask) | code << bit % 8);
}

inline uint32_t v_row_code(const uint8_t *row, int bits, int channel) {
    if (bits == 16) return row[2 * channel] | uint32_t(row[2 * channel + 1]) << 8;
    const VPlace place = v_place(bits, channel);
    return (row[place.byte] >> place.bit) & ((1u << bits) - 1);
}

inline void set_v_row_code(uint8_t *row, int bits, int channel, uint32_t code) {
    if (bits == 16) {
        row[2 * channel] = uint8_t(code);
        row[2 * channel + 1] = uint8_t(code >> 8);
        return;
    }
    const VPlace place = v_place(bits, channel);
    const uint32_t mask = ((1u << bits) - 1) << place.bit;
    row[place.byte] = uint8_t((row[place.byte] & ~mask) | code << place.bit);
}

}  // namespace detail

// Code of a channel of a token (0..page_tokens-1) in a head's plane of K codes.
inline uint32_t k_code(const uint8_t *codes, const Format &f, int token, int channel) {
    if (f.k_bits != 3) return detail::k_plane_code(codes, f.head_dim, f.k_bits, token, channel);
    const uint8_t *upper = codes + f.page_tokens * f.head_dim / 4;
    return detail::k_plane_code(codes, f.head_dim, 2, token, channel) |
           detail::k_plane_code(upper, f.head_dim, 1, token, channel) << 2;
}

inline void set_k_code(uint8_t *codes, const Format &f, int token, int channel, uint32_t code) {
    if (f.k_bits != 3) {
        detail::set_k_plane_code(codes, f.head_dim, f.k_bits, token, channel, code);
        return;
    }
    uint8_t *upper = codes + f.page_tokens * f.head_dim / 4;
    detail::set_k_plane_code(codes, f.head_dim, 2, token, channel, code & 3);
    detail::set_k_plane_code(upper, f.head_dim, 1, token, channel, code >> 2);
}

inline uint32_t v_code(const uint8_t *codes, const Format &f, int token, int channel) {
    const uint8_t *row =
        codes + token * code_bytes_per_token(f.head_dim, f.v_bits == 3 ? 2 : f.v_bits);
    if (f.v_bits != 3) return detail::v_row_code(row, f.v_bits, channel);
    const uint8_t *upper = codes + (f.page_tokens * 2 + token) * f.head_dim / 8;
    return detail::v_row_code(row, 2, channel) | detail::v_row_code(upper, 1, channel) << 2;
}

inline void set_v_code(uint8_t *codes, const Format &f, int token, int channel, uint32_t code) {
    uint8_t *row = codes + token * code_bytes_per_token(f.head_dim, f.v_bits == 3 ? 2 : f.v_bits);
    if (f.v_bits != 3) {
        detail::set_v_row_code(row, f.v_bits, channel, code);
        return;
    }
    uint8_t *upper = codes + (f.page_tokens * 2 + token) * f.head_dim / 8;
    detail::set_v_row_code(row, 2, channel, code & 3);
    detail::set_v_row_code(upper, 1, channel, code >> 2);
}

}  // namespace tarpon::kv_cache
