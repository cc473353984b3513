// The reference of both modes: what append stores, and attention in binary64 over what is stored.
// Append here is exact: every device's codes must equal these bit for bit. Host only.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kv_cache/scheme.h"

namespace tarpon::kv_cache {

// Mode tarpon: k [head_dim] before RoPE, after any QK-norm, becomes H R(k - mean); mean may be
// null.
inline void transform_key(const RopeTables &tables, const float *mean, int head_dim, int position,
                          float *k) {
    for (int i = 0; mean && i < head_dim; ++i)
        k[i] = add_rn(k[i], -mean[i]);
    rope(tables, position, k);
    hadamard::transform_reference(k, head_dim);
}

// What a head's transformed vector becomes: its codes, and of each group the scale and, in mode
// rotatekv, the zero point. At 16 bits codes are binary16 values, and there are no scales.
struct Encoded {
    uint16_t codes[kMaxHeadDim];
    StoredRange ranges[kMaxGroups];
};

inline void encode(const Format &f, int bits, const float *x, Encoded *out) {
    if (bits == 16) {
        for (int i = 0; i < f.head_dim; ++i)
            out->codes[i] = saturate_half(x[i]).bits;
        return;
    }
    if (f.scheme == Scheme::kTarpon) {
        const Grid grid = choose_grid(x, f.head_dim, bits);
        const float inverse = grid_inverse(grid.step);
        for (int i = 0; i < f.head_dim; ++i)
            out->codes[i] = uint16_t(grid_code(x[i], inverse, bits));
        out->ranges[0] = {grid.scale, {}};
        return;
    }
    const int count = group_channels(f);
    for (int group = 0; group < scale_groups(f); ++group) {
        const float *values = x + group * count;
        AsymmetricCode range = asymmetric_range(values, count, bits, rotatekv_clip(bits));
        out->ranges[group] = stored_range(range);
        range.zero = to_float(out->ranges[group].zero);
        for (int i = 0; i < count; ++i)
            out->codes[group * count + i] = uint16_t(asymmetric_code(values[i], range, bits));
    }
}

namespace detail {

inline void store_ranges(uint8_t *scales, uint8_t *zeros, const Format &f, int bits, int token,
                         const Encoded &encoded) {
    for (int group = 0; has_scales(bits) && group < scale_groups(f); ++group) {
        const int at = scale_index(f, group, token);
        reinterpret_cast<half_t *>(scales)[at] = encoded.ranges[group].scale;
        if (f.scheme == Scheme::kRotatekv)
            reinterpret_cast<half_t *>(zeros)[at] = encoded.ranges[group].zero;
    }
}

// The value of a code of one channel.
template <class T>
T decode(const uint8_t *scales, const uint8_t *zeros, const Format &f, int bits, int token,
         int channel, uint32_t code) {
    if (bits == 16) return T(to_float(half_t{uint16_t(code)}));
    const int at = scale_index(f, channel / group_channels(f), token);
    const T scale = T(to_float(reinterpret_cast<const half_t *>(scales)[at]));
    if (f.scheme == Scheme::kTarpon) return T(grid_level(code, bits)) * scale;
    return (T(int(code)) - T(to_float(reinterpret_cast<const half_t *>(zeros)[at]))) * scale;
}

}  // namespace detail

// Codes the transformed key of `token` (0 .. page_tokens-1) into a head's block of a page. In mode
// rotatekv these are the head's share of the layer's reordered channels.
inline void store_key(uint8_t *block, const Format &f, int token, const float *k) {
    const BlockLayout layout = block_layout(f);
    Encoded encoded;
    encode(f, f.k_bits, k, &encoded);
    for (int i = 0; i < f.head_dim; ++i)
        set_k_code(block + layout.k_codes, f, token, i, encoded.codes[i]);
    detail::store_ranges(block + layout.k_scales, block + layout.k_zeros, f, f.k_bits, token,
                         encoded);
}

inline void store_value(uint8_t *block, const Format &f, int token, const float *v) {
    const BlockLayout layout = block_layout(f);
    Encoded encoded;
    encode(f, f.v_bits, v, &encoded);
    for (int i = 0; i < f.head_dim; ++i)
        set_v_code(block + layout.v_codes, f, token, i, encoded.codes[i]);
    detail::store_ranges(block + layout.v_scales, block + layout.v_zeros, f, f.v_bits, token,
                         encoded);
}

// What is stored, still transformed: as store_key() and store_value() got it. T is float or double.
template <class T>
void load_key(const uint8_t *block, const Format &f, int token, T *k) {
    const BlockLayout layout = block_layout(f);
    for (int i = 0; i < f.head_dim; ++i) {
        k[i] = detail::decode<T>(block + layout.k_scales, block + layout.k_zeros, f, f.k_bits,
                                 token, i, k_code(block + layout.k_codes, f, token, i));
    }
}

template <class T>
void load_value(const uint8_t *block, const Format &f, int token, T *v) {
    const BlockLayout layout = block_layout(f);
    for (int i = 0; i < f.head_dim; ++i) {
        v[i] = detail::decode<T>(block + layout.v_scales, block + layout.v_zeros, f, f.v_bits,
                                 token, i, v_code(block + layout.v_codes, f, token, i));
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

// Back from what mode tarpon stores to the key as the model sees it, after RoPE: un-rotated, its
// mean (or null) put back.
inline void recover_key(const RopeRule &rule, const float *mean, int head_dim, int64_t position,
                        double *k) {
    hadamard::transform_reference(k, head_dim);
    if (!mean) return;
    std::vector<double> turned(mean, mean + head_dim);
    rope_exact(rule, position, turned.data());
    for (int i = 0; i < head_dim; ++i)
        k[i] += turned[i];
}

}  // namespace tarpon::kv_cache
