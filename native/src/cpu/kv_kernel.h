// The contract between the CPU's KV attention (kv_attend.cc, kv_split.cc) and its kernels, one file
// an instruction set. Included by files compiled with wide instruction sets: nothing here compiles
// to code, or the linker might keep a wide copy for everybody.
//
// Rows are queries that share a kv head. The page format is that of kernels-cu/kv_cache/format.h.
#pragma once

#include <cstdint>

namespace tarpon::cpu {

inline constexpr int kKvRows = 8;    // most rows of a call
inline constexpr int kKvTile = 16;   // tokens of a tile of K codes
inline constexpr int kKvSteps = 64;  // positions that the angle of the first gives by tables
inline constexpr int kKvSplitTokens = 512;

// Cache lines [begin, end) of blocks, counted over all of them, that are read soon: see
// kv_ahead.inl.h.
struct KvAhead {
    const uint8_t *const *blocks;
    int block_lines;
    int begin, end;
};

// A query as kernels want it, made once and used for all its keys. `packed` has room for
// kv_packed_floats(); kernels that need nothing leave it alone.
struct KvPackArgs {
    const float *q;  // [head_dim], transformed and scaled
    int head_dim;
    float *packed;
};

// Two bytes a channel, or tables of eight values of 16 bits a channel at 2 bits.
constexpr int kv_packed_floats(int head_dim, int bits) {
    return 16 + (bits == 2 ? 4 * head_dim : head_dim / 2);
}

// scores[row][t] = scale[t] * sum over channels of q[row] * level of the code, for whole tiles.
struct KvScoreArgs {
    const uint8_t *codes;    // a head's plane of K codes
    const uint16_t *scales;  // its scales, binary16; unused at width 16
    int head_dim, page_tokens;
    int first_tile, tiles;
    const float *q, *packed;
    int64_t q_stride;  // of both
    int rows;
    float *scores;
    int64_t score_stride;
};

// scores[row][t] += constant[row] + sum over pairs of a[row] * cos + b[row] * sin of the angles of
// consecutive positions, whole tiles of them, at most kKvSteps: what the mean of the keys adds.
// Pairs whose mean is zero are left out.
struct KvMeanArgs {
    const float *a, *b;     // [rows][pairs]
    const float *constant;  // [rows], stride likewise
    int64_t stride;
    int rows, pairs;
    const int32_t *pair_index;           // [pairs]: which pairs of RoPE they are
    const float *start_cos, *start_sin;  // [pairs]: angles of the first position
    const float *step_cos, *step_sin;  // [pairs of RoPE][kKvSteps]: angles of so many positions on
    int tiles;
    float *scores;
    int64_t score_stride;
};

// What probabilities become before values are summed: w[row][t] = p[row][t] * scale[t], for tokens
// of a page; with zero points, offset[row] += sum of w * (middle - zero[t]), which every channel
// gets: levels count from the middle of the codes. Width 16 has no scales and is not weighted.
struct KvWeightArgs {
    const uint16_t *scales, *zeros;  // binary16, of the first token; zeros null in mode tarpon
    float middle;                    // (2^bits - 1) / 2
    int tokens, rows;
    const float *p;
    int64_t p_stride;
    float *w;
    int64_t w_stride;
    float *offset;
};

// acc[row] += w[row][t] * level of the code, for consecutive tokens of a split and a range of
// channels. Tokens go on from page to page.
struct KvValueArgs {
    const uint8_t *const *pages;  // a head's planes of V codes
    int head_dim, page_tokens;
    int first_channel, channels;  // multiples of 64, but for the last chunk of a head of 96
    int first_token;              // in the first page
    int tokens;                   // at most kKvSplitTokens
    const float *w;
    int64_t w_stride;
    int rows;
    float *acc;  // of the first channel
    int64_t acc_stride;
    KvAhead ahead;  // asked for on the way
};

// One token in binary16 [head_dim]: scores[row * score_stride] = q[row] . x.
struct KvHalfArgs {
    const uint16_t *x;
    int head_dim, rows;
    const float *q;
    int64_t q_stride;
    float *scores;
    int64_t score_stride;
    float *acc;  // for values: acc[row] += scores[row * score_stride] * x
    int64_t acc_stride;
};

// ---- Mode rotatekv

// Where the code of a channel of the rotated key lies in a page, for its first tile of tokens.
struct KvPlace {
    int32_t word;   // byte offset of the 16 words of a tile
    int32_t upper;  // width 3: of those of the plane of upper bits
    int32_t range;  // index of its head's group of channels among those of the layer
    uint8_t bit;    // in the word
    uint8_t upper_bit;
};

// Keys of one tile and the heads of one rotation, turned back: decoded, un-rotated, after RoPE.
struct KvTurnArgs {
    const uint8_t *page;
    int tile;               // in the page
    const KvPlace *places;  // [channels]
    int channels, head_dim;
    int tile_bytes, upper_tile_bytes;  // from a tile to the next
    const int32_t *range_bytes;        // [ranges][2]: offsets of planes of scales and zero points
    int ranges;
    int power, base;         // of the rotation
    const uint32_t *matrix;  // rows of the base matrix; null for base 1
    float scale;
    int pairs;
    const int32_t *pair_channels;        // [pairs][2]: channels of a head that turn together
    const float *start_cos, *start_sin;  // as in KvMeanArgs, of all pairs
    const float *step_cos, *step_sin;
    float *keys;  // [channels][16], aligned to 64 bytes
};

// scores[row][t] = q[row] . keys[.][t] for the 16 tokens of a tile.
struct KvDotArgs {
    const float *keys;  // [head_dim][16]
    int head_dim, rows;
    const float *q;
    int64_t q_stride;
    float *scores;
    int64_t score_stride;
};

inline constexpr int kKvWidths = 5;  // 2, 3, 4, 8, 16 bits, in this order
inline constexpr int kKvMaxRanges = 256;

struct KvKernels {
    const char *name;
    void (*pack[kKvWidths])(const KvPackArgs &);
    void (*score[kKvWidths])(const KvScoreArgs &);
    void (*weight)(const KvWeightArgs &);
    void (*value[kKvWidths])(const KvValueArgs &);
    void (*mean)(const KvMeanArgs &);
    // x = exp(x - top) and their sum, top being the largest x, which goes to *out_top. All zero if
    // that is minus infinity.
    float (*exponentials)(float *x, int count, float *out_top);
    void (*half_scores)(const KvHalfArgs &);
    void (*half_values)(const KvHalfArgs &);
    void (*turn[kKvWidths])(const KvTurnArgs &);
    void (*dot)(const KvDotArgs &);
};
extern const KvKernels kScalarKv, kAvx2Kv, kAvx512Kv;

// Those that replace kAvx512Kv's where there are integer dot products; width 16 keeps its own.
inline constexpr int kKvIntegerWidths = 4;
struct KvIntegerKernels {
    const char *name;
    // Null for 2 bits.
    void (*pack[kKvIntegerWidths])(const KvPackArgs &);
    void (*score[kKvIntegerWidths])(const KvScoreArgs &);
    void (*value[kKvIntegerWidths])(const KvValueArgs &);
};
extern const KvIntegerKernels kAvx512VnniKv;

// Those for K codes of 2 bits wherever there is AVX-512.
struct KvLookupKernels {
    void (*pack)(const KvPackArgs &);
    void (*score)(const KvScoreArgs &);
};
extern const KvLookupKernels kAvx512LookupKv;

// ---- Append

// Codes of `count` values (a multiple of 16) that share a scale, a byte each.
struct KvEncodeArgs {
    const float *x;
    int count, bits;  // 2, 3, 4 or 8
    float grid_step;  // mode tarpon: gaussian_step(bits)
    float clip;       // mode rotatekv
    uint8_t *codes;
    uint16_t *scale, *zero;  // binary16, one each; zero in mode rotatekv
};

struct KvEncodeKernels {
    void (*grid)(const KvEncodeArgs &);   // mode tarpon
    void (*range)(const KvEncodeArgs &);  // mode rotatekv
    // Counts are multiples of 16; stores keep values finite.
    void (*load_halves)(const uint16_t *from, int count, float *to);
    void (*load_bfloats)(const uint16_t *from, int count, float *to);
    void (*store_halves)(const float *from, int count, uint16_t *to);
    // QK-norm: rms_norm() of scheme.h.
    void (*norm)(const float *weight, float eps, int count, float *x);
    // RoPE: pairs are channels i and i + pairs if `half`, else 2i and 2i + 1.
    void (*rope)(const float *cos, const float *sin, int pairs, bool half, float *x);
};
extern const KvEncodeKernels kScalarEncodeKv, kAvx2EncodeKv, kAvx512EncodeKv;

}  // namespace tarpon::cpu
