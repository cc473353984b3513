// What the kernels of the cache are told: parameters by value, shapes of blocks, sizes of stages.
// Plain C++ for the kernels, their launchers and the plan (native/src/cuda/kv.cc).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/ticket.h"
#include "common/types.h"
#include "kv_cache/scheme.h"

namespace tarpon::kv_cache {

enum class Element { kF32, kF16, kBF16 };  // of q, k, v and o

inline constexpr int kKernelWarps = 4;
inline constexpr int kKernelThreads = 32 * kKernelWarps;
inline constexpr int kChunkTokens = 32;  // keys that a warp attends at once: two tiles of mma
inline constexpr int kBaseRows = 12;     // of the Hadamard matrix of head_dim 96

// Blocks of attention whose registers a processor has, as the kernels' launch bounds promise. A lane
// keeps accumulators and queries for each tile of query rows and, in mode rotatekv, a strip of keys.
inline constexpr int kMaxBlocksPerProcessor = 3;
TARPON_LAYOUT int register_blocks(Scheme scheme, int head_dim, int row_tiles) {
    const int largest = scheme == Scheme::kRotatekv ? 96 : 128;
    return row_tiles == 2 || head_dim > largest ? 2 : kMaxBlocksPerProcessor;
}

// Mode rotatekv: where the code of a channel of the rotated key lies, as byte offsets from the
// beginning of a page to what its first token has there.
struct alignas(16) KeyPlace {
    int32_t word, upper;      // words of a tile of tokens; upper: of the upper plane, width 3
    int32_t scale;            // binary16; the zero point is as far on in its own plane
    uint16_t bit, upper_bit;  // of the words
};

// What a plan keeps in device memory, and numbers that both kernels need.
struct PlanParams {
    Format format;
    BlockLayout layout;
    Element element;
    RopeTables rope;
    const float *mean;             // [kv_heads, head_dim]; null: none
    const float *q_norm, *k_norm;  // [head_dim]; null: none
    float norm_eps;
    float rotation_scale;           // 1 / sqrt(head_dim)
    uint32_t base_rows[kBaseRows];  // of head_dim 96 (hadamard/matrix.h)
    // Mode rotatekv: heads whose keys are rotated together, and 1 / sqrt of their channels; the
    // rotated channel of each stored one, and the place of each rotated one.
    int rotation_heads;
    float key_rotation_scale;
    const int32_t *order;    // [kv_heads * head_dim]
    const KeyPlace *places;  // likewise
    int sink_tokens, window_tokens, ring_tokens;
};

// What a block of append takes in mode tarpon: tokens that follow one another, at most
// kAppendTokens, and heads.
inline constexpr int kAppendTokens = kTileTokens;
struct AppendTile {
    int tokens, heads;
};

struct AppendParams {
    PlanParams plan;
    AppendTile tile;
    const void *k, *v;  // [tokens, kv_heads, head_dim]
    bool vectors;       // both are multiples of 16 bytes
    int64_t tokens;
    const int64_t *slots;
    const int32_t *positions, *rows, *lengths, *recent_index;
    const int32_t *sink_positions;  // [batch, sink_tokens]; null: 0, 1, ..
    uint8_t *pages;
    half_t *recent;
};

struct DequantizeParams {
    PlanParams plan;
    float *k, *v;  // [tokens, kv_heads, head_dim]
    int64_t tokens;
    const int64_t *slots;
    const int32_t *positions, *rows, *lengths, *recent_index;
    const int32_t *sink_positions;  // [batch, sink_tokens]; null: 0, 1, ..
    const uint8_t *pages;
    const half_t *recent;  // null: everything is read from pages
};

// Where a warp's copies of a chunk are in its slot of shared memory: K codes, their upper plane
// (width 3), K scales, and the same of V, with zero points in mode rotatekv, which copies no K;
// offsets in bytes, multiples of 16.
struct StageLayout {
    int k_codes, k_upper, k_scales, v_codes, v_upper, v_scales, v_zeros, bytes;
    int warps, slots;  // warps that attend, and the slots of each
};

struct alignas(8) PairMean {
    float first, second;
};

// Cosine (low half) and sine of the angles of two positions of a tile, 2g and 2g + 1, for a pair of
// RoPE: words of an mma operand, as binary16 and what that rounds off.
struct alignas(16) TurnFragment {
    uint32_t even, odd, even_rest, odd_rest;
};

struct AttendParams {
    PlanParams plan;
    const void *q;  // [batch, queries, q_heads, head_dim]
    void *o;        // likewise
    bool vectors;   // both are multiples of 16 bytes
    const int32_t *page_table;
    int64_t table_stride;
    const int32_t *lengths, *recent_index;
    const int32_t *sink_positions;  // as in append
    const uint8_t *pages;
    const half_t *recent;
    Ticket *flags;    // [blocks]
    float *partials;  // [blocks][heads of a block][kRows * (head_dim + 2)]
    Ticket ticket;
    // Pairs of RoPE whose mean is not zero, filled up to a multiple of 8 with any pair and zeros.
    const int32_t *mean_pairs;        // [kv_heads][pair_stride]
    const PairMean *pair_means;       // likewise
    const int32_t *mean_pair_counts;  // [kv_heads], filled up
    int pair_stride;                  // a multiple of 8
    const TurnFragment *turns;        // [2 tiles][pairs][8]
    int queries, group, q_heads;
    int row_blocks;            // blocks of query rows of a kv head, or of a rotation's heads
    int splits, recent_items;  // of the keys
    float q_scale;             // of q; with log2(e) in it unless there is a softcap
    float softcap, cap_scale;  // softcap and softcap * log2(e); 0: off
    int sliding_window;
    StageLayout code_stage, recent_stage;
};

}  // namespace tarpon::kv_cache
