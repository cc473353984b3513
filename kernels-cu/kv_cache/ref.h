// The reference of mode `tarpon`: what append stores, and attention in binary64 over what is stored.
// Append here is exact: every device's codes must equal these bit for bit. Host only.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kv_cache/scheme.h"

namespace tarpon::kv_cache {

// k [head_dim] before RoPE becomes H R(k - mean); mean may be null.
inline void transform_key(const RopeTables &tables, const float *mean, int head_dim, int position,
                          float *k) {
    for (int i = 0; mean && i < head_dim; ++i)
        k[i] = add_rn(k[i], -mean[i]);
    rope(tables, position, k);
    hadamard::transform_reference(k, head_dim);
}

// Codes the transformed key of `token` (0 .. page_tokens-1) into a head's block of a page.
inline void store_key(uint8_t *block, const Format &f, int token, const float *k) {
    const BlockLayout layout = block_layout(f);
    if (f.k_bits == 16) {
        for (int i = 0; i < f.head_dim; ++i)
            set_k_code(block + layout.k_codes, f, token, i, saturate_half(k[i]).bits);
        return;
    }
    const half_t scale = grid_scale(spread(k, f.head_dim), f.head_dim, f.k_bits);
    const float inverse = grid_inverse(scale);
    for (int i = 0; i < f.head_dim; ++i)
        set_k_code(block + layout.k_codes, f, token, i, grid_code(k[i], inverse, f.k_bits));
    reinterpret_cast<half_t *>(block + layout.k_scales)[token] = scale;
}

inline void store_value(uint8_t *block, const Format &f, int token, const float *v) {
    const BlockLayout layout = block_layout(f);
    if (f.v_bits == 16) {
        for (int i = 0; i < f.head_dim; ++i)
            set_v_code(block + layout.v_codes, f, token, i, saturate_half(v[i]).bits);
        return;
    }
    const half_t scale = grid_scale(spread(v, f.head_dim), f.head_dim, f.v_bits);
    const float inverse = grid_inverse(scale);
    for (int i = 0; i < f.head_dim; ++i)
        set_v_code(block + layout.v_codes, f, token, i, grid_code(v[i], inverse, f.v_bits));
    reinterpret_cast<half_t *>(block + layout.v_scales)[token] = scale;
}

// What is stored, still rotated (and without the key's mean). T is float or double.
template <class T>
void load_key(const uint8_t *block, const Format &f, int token, T *k) {
    const BlockLayout layout = block_layout(f);
    for (int i = 0; i < f.head_dim; ++i) {
        const uint32_t code = k_code(block + layout.k_codes, f, token, i);
        k[i] =
            f.k_bits == 16
                ? T(to_float(half_t{uint16_t(code)}))
                : T(grid_level(code, f.k_bits)) *
                      T(to_float(reinterpret_cast<const half_t *>(block + layout.k_scales)[token]));
    }
}

template <class T>
void load_value(const uint8_t *block, const Format &f, int token, T *v) {
    const BlockLayout layout = block_layout(f);
    for (int i = 0; i < f.head_dim; ++i) {
        const uint32_t code = v_code(block + layout.v_codes, f, token, i);
        v[i] =
            f.v_bits == 16
                ? T(to_float(half_t{uint16_t(code)}))
                : T(grid_level(code, f.v_bits)) *
                      T(to_float(reinterpret_cast<const half_t *>(block + layout.v_scales)[token]));
    }
}

// How a model attends.
struct AttentionRule {
    double scale;        // of the scores, before softcap; usually 1/sqrt(head_dim)
    double softcap = 0;  // score becomes softcap * tanh(score / softcap); 0: off
    int sliding_window =
        0;  // keys more than this many positions back are unseen, itself counted; 0: off
};

struct RopeRule {
    double theta = 1e4, scaling = 1;
    int pairs = 0;
    RopeLayout layout = RopeLayout::kHalf;
};

// RoPE in binary64.
inline void rope_exact(const RopeRule &rule, int64_t position, double *x) {
    for (int pair = 0; pair < rule.pairs; ++pair) {
        const bool half = rule.layout == RopeLayout::kHalf;
        double &first = x[half ? pair : 2 * pair],
               &second = x[half ? pair + rule.pairs : 2 * pair + 1];
        const double angle =
            double(position) / rule.scaling * std::pow(rule.theta, -double(pair) / rule.pairs);
        const double a = first, b = second, c = std::cos(angle), s = std::sin(angle);
        first = a * c - b * s;
        second = b * c + a * s;
    }
}

// Softmax attention of one query over `length` keys and values [length][head_dim], all as the model
// sees them (after RoPE). out [head_dim]; zeros if nothing is visible.
inline void attend_plain(const double *q, int64_t position, const double *keys,
                         const double *values, int64_t length, int head_dim,
                         const AttentionRule &rule, double *out) {
    std::vector<double> scores(length);
    const int64_t end = std::min<int64_t>(length, position + 1);
    const int64_t begin =
        rule.sliding_window > 0 ? std::max<int64_t>(0, position + 1 - rule.sliding_window) : 0;
    double top = -INFINITY, sum = 0;
    for (int64_t j = begin; j < end; ++j) {
        double score = 0;
        for (int i = 0; i < head_dim; ++i)
            score += q[i] * keys[j * head_dim + i];
        score *= rule.scale;
        if (rule.softcap > 0) score = rule.softcap * std::tanh(score / rule.softcap);
        scores[j] = score;
        top = std::max(top, score);
    }
    std::fill_n(out, head_dim, 0.0);
    for (int64_t j = begin; j < end; ++j) {
        const double p = std::exp(scores[j] - top);
        sum += p;
        for (int i = 0; i < head_dim; ++i)
            out[i] += p * values[j * head_dim + i];
    }
    for (int i = 0; i < head_dim && sum > 0; ++i)
        out[i] /= sum;
}

// The same over stored, rotated keys and values: q before RoPE; keys [length][head_dim] and values
// as load_key() and load_value() give them, for positions 0 .. length-1. By brute force: the keys
// are rotated back and their mean is put back.
inline void attend_reference(const float *q, int64_t position, const std::vector<double> &keys,
                             const std::vector<double> &values, int64_t length, int head_dim,
                             const float *mean, const RopeRule &rope_rule,
                             const AttentionRule &rule, double *out) {
    std::vector<double> query(q, q + head_dim), k(keys.begin(), keys.begin() + length * head_dim);
    rope_exact(rope_rule, position, query.data());
    for (int64_t j = 0; j < length; ++j) {
        double *key = &k[j * head_dim];
        hadamard::transform_reference(key, head_dim);
        if (!mean) continue;
        std::vector<double> turned(mean, mean + head_dim);
        rope_exact(rope_rule, j, turned.data());
        for (int i = 0; i < head_dim; ++i)
            key[i] += turned[i];
    }
    attend_plain(query.data(), position, k.data(), values.data(), length, head_dim, rule, out);
    hadamard::transform_reference(out, head_dim);
}

}  // namespace tarpon::kv_cache
