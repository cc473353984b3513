// Other schemes of low-bit caches, for comparison in the accuracy suite: what each makes of keys and
// values, as quantise-dequantise in float. Written from the papers; host only, used by tests.
//
// Keys and values are [tokens][channels], channels = kv_heads * head_dim. Keys are given and
// returned after RoPE, except for RotateKV, which codes them before it. Every function returns the
// bits a value takes with all metadata, binary16 scales and zero points.
#pragma once

#include <algorithm>
#include <vector>

#include "kv_cache/scheme.h"

namespace tarpon::kv_cache::peers {

inline constexpr int kGroup = 128;  // values that share a scale and a zero point

inline double grouped_bits(int bits) {
    return bits + 2 * 16.0 / kGroup;
}

enum class Offset {
    kMinimum,    // value = code * scale + minimum: 0 is not on the grid
    kZeroPoint,  // value = (code - zero) * scale, zero a whole number: 0 is
};

// Codes `count` values `stride` apart with one range.
inline void quantise_group(float *x, int count, int64_t stride, int bits, float clip,
                           Offset offset) {
    std::vector<float> values(count);
    for (int i = 0; i < count; ++i)
        values[i] = x[i * stride];
    AsymmetricCode range = asymmetric_range(values.data(), count, bits, clip);
    range.scale = to_float(from_float<half_t>(range.scale));
    if (offset == Offset::kZeroPoint) {
        for (int i = 0; i < count; ++i)
            x[i * stride] = asymmetric_value(asymmetric_code(values[i], range, bits), range);
        return;
    }
    const float minimum =
        to_float(from_float<half_t>(*std::min_element(values.begin(), values.end())));
    for (int i = 0; i < count; ++i) {
        const float code =
            range.scale > 0 ? std::nearbyint((values[i] - minimum) / range.scale) : 0.0f;
        x[i * stride] = std::clamp(code, 0.0f, float((1 << bits) - 1)) * range.scale + minimum;
    }
}

// Round-to-nearest per token in groups of 128 channels.
inline double plain(std::vector<float> &x, int bits, Offset offset = Offset::kMinimum) {
    for (size_t i = 0; i + kGroup <= x.size(); i += kGroup)
        quantise_group(&x[i], kGroup, 1, bits, 1.0f, offset);
    return grouped_bits(bits);
}

// KIVI (Liu et al., ICML 2024): keys per channel over groups of 128 tokens, values per token. Its
// window of recent tokens in 16 bits is left out for all schemes alike.
inline double kivi_keys(std::vector<float> &k, int tokens, int channels, int bits) {
    for (int t = 0; t < tokens; t += kGroup) {
        for (int c = 0; c < channels; ++c)
            quantise_group(&k[int64_t{t} * channels + c], std::min(kGroup, tokens - t), channels,
                           bits, 1.0f, Offset::kMinimum);
    }
    return grouped_bits(bits);
}

// QuaRot (Ashkboos et al., NeurIPS 2024): a Hadamard rotation of each head after RoPE, then per token.
inline double quarot(std::vector<float> &x, int head_dim, int bits) {
    for (size_t i = 0; i < x.size(); i += head_dim)
        hadamard::transform_reference(&x[i], head_dim);
    const double size = plain(x, bits, Offset::kZeroPoint);
    for (size_t i = 0; i < x.size(); i += head_dim)
        hadamard::transform_reference(&x[i], head_dim);
    return size;
}

// RotateKV: keys before RoPE, rotated over groups of four heads and reordered; clip 0.8 at 2 bits.
inline double rotatekv_keys(std::vector<float> &k_pre_rope, const std::vector<int32_t> &order,
                            int tokens, int kv_heads, int head_dim, int bits) {
    const int channels = kv_heads * head_dim, group_heads = std::min(4, kv_heads);
    std::vector<float> rotated(channels), reordered(channels);
    for (int t = 0; t < tokens; ++t) {
        float *keys = &k_pre_rope[int64_t{t} * channels];
        rotatekv_transform(keys, order.data(), kv_heads, head_dim, group_heads, rotated.data(),
                           reordered.data());
        for (int c = 0; c < channels; c += kGroup)
            quantise_group(&reordered[c], kGroup, 1, bits, bits == 2 ? 0.8f : 1.0f,
                           Offset::kZeroPoint);
        rotatekv_recover(reordered.data(), order.data(), kv_heads, head_dim, group_heads, keys);
    }
    return grouped_bits(bits);
}

inline double rotatekv_values(std::vector<float> &v, int head_dim, int bits) {
    for (size_t i = 0; i < v.size(); i += head_dim) {
        hadamard::transform_reference(&v[i], head_dim);
        for (int c = 0; c < head_dim; c += kGroup)
            quantise_group(&v[i + c], std::min(kGroup, head_dim - c), 1, bits,
                           bits == 2 ? 0.8f : 1.0f, Offset::kZeroPoint);
        hadamard::transform_reference(&v[i], head_dim);
    }
    return grouped_bits(bits);
}

}  // namespace tarpon::kv_cache::peers
