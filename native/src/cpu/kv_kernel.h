// The contract between the CPU's KV attention (kv_attend.cc) and its kernels, one file an
// instruction set. Included by files compiled with wide instruction sets: nothing here compiles to
// code, or the linker might keep a wide copy for everybody.
//
// Rows are queries that share a kv head. The page format is that of kernels-cu/kv_cache/format.h.
#pragma once

#include <cstdint>

namespace tarpon::cpu {

inline constexpr int kKvRows = 8;   // most rows of a call
inline constexpr int kKvTile = 16;  // tokens of a tile of K codes

// scores[row][t] = scale[t] * sum over channels of q[row] * level of the code, for whole tiles.
struct KvScoreArgs {
    const uint8_t *codes;    // a head's plane of K codes
    const uint16_t *scales;  // its scales, binary16; unused at width 16
    int head_dim, page_tokens;
    int first_tile, tiles;
    const float *q;
    int64_t q_stride;
    int rows;
    float *scores;
    int64_t score_stride;
};

// scores[row][t] += constant[row] + sum over pairs of a[row] * cos + b[row] * sin of the angles of 16
// consecutive positions: what the mean of the keys adds. Pairs whose mean is zero are left out.
struct KvMeanArgs {
    const float *a, *b;     // [rows][pairs]
    const float *constant;  // [rows], stride likewise
    int64_t stride;
    int rows, pairs;
    const int32_t *pair_index;           // [pairs]: which pairs of RoPE they are
    const float *start_cos, *start_sin;  // [pairs]: angles of the first position
    const float *step_cos, *step_sin;    // [pairs of RoPE][16]: angles of 0..15 positions on
    float *scores;
    int64_t score_stride;
};

// acc[row] += p[row][t] * scale[t] * level of the code, for tokens of a page.
struct KvValueArgs {
    const uint8_t *codes;    // a head's plane of V codes
    const uint16_t *scales;  // binary16; unused at width 16
    int head_dim, page_tokens;
    int first_token, tokens;
    const float *p;
    int64_t p_stride;
    int rows;
    float *acc;
    int64_t acc_stride;
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

inline constexpr int kKvWidths = 5;  // 2, 3, 4, 8, 16 bits, in this order

struct KvKernels {
    const char *name;
    void (*score[kKvWidths])(const KvScoreArgs &);
    void (*value[kKvWidths])(const KvValueArgs &);
    void (*mean)(const KvMeanArgs &);
    // x = exp(x - top), and their sum; top is no less than any x, and finite.
    float (*exponentials)(float *x, int count, float top);
    void (*half_scores)(const KvHalfArgs &);
    void (*half_values)(const KvHalfArgs &);
};
extern const KvKernels kScalarKv, kAvx512Kv;

}  // namespace tarpon::cpu
