// A layer of any weight format with its binary64 meaning, for the tests of the linear family. The
// arithmetic here is the tests' own: nothing of the library's host layer is used.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "abi_support.h"

namespace tarpon::test {

struct Format {
    tarpon_weight_type weight_type;
    tarpon_zero_type zero_type;
    tarpon_scale_type scale_type = TARPON_SCALE_F16;
    int32_t group_size = 128;
    tarpon_sparsity sparsity = TARPON_SPARSITY_NONE;

    int max_code() const { return weight_type == TARPON_WEIGHT_INT4 ? 15 : 255; }
    tarpon_dtype scale_dtype() const {
        return scale_type == TARPON_SCALE_F16    ? TARPON_F16
               : scale_type == TARPON_SCALE_BF16 ? TARPON_BF16
                                                 : TARPON_F32;
    }
    std::string name() const {
        constexpr const char *kWeights[] = {"int4", "int8", "e4m3"};
        constexpr const char *kZeros[] = {"symmetric", "integer", "float"};
        constexpr const char *kScales[] = {"f16", "bf16", "f32"};
        return std::string(kWeights[weight_type]) + " " + kZeros[zero_type] + " scales " +
               kScales[scale_type] + " group " + std::to_string(group_size) +
               (sparsity ? " 2:4" : "");
    }
};

// By the definition of the format, not by a table.
inline double e4m3_to_double(int code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent ? std::ldexp(1 + mantissa / 8.0, exponent - 7) : std::ldexp(mantissa / 8.0, -6);
    return code & 0x80 ? -magnitude : magnitude;
}

struct FormatLayer {
    Format format;
    int64_t n, k, groups;
    std::vector<uint8_t> codes;  // [K, N]
    std::vector<char> scales;    // [G, N] of scale_type
    std::vector<char> zeros;     // [G, N] uint8 or scale_type; empty if symmetric
    std::vector<char> bias;      // [N] of the activations' dtype; empty for none
    std::vector<int32_t> g_idx;  // [K]; empty for none

    int64_t group(int64_t row) const {
        if (!g_idx.empty()) return g_idx[row];
        return format.group_size == -1 ? 0 : row / format.group_size;
    }
    double scale(int64_t row, int64_t column) const {
        return load(scales.data(), format.scale_dtype(), group(row) * n + column);
    }
    double zero(int64_t row, int64_t column) const {
        const int64_t at = group(row) * n + column;
        return format.zero_type == TARPON_ZERO_INTEGER
                   ? static_cast<uint8_t>(zeros[at])
                   : double{load(zeros.data(), format.scale_dtype(), at)};
    }
    double weight(int64_t row, int64_t column) const {
        const int code = codes[row * n + column];
        if (format.weight_type == TARPON_WEIGHT_FP8_E4M3)
            return e4m3_to_double(code) * scale(row, column);
        switch (format.zero_type) {
            case TARPON_ZERO_INTEGER:
                return (code - zero(row, column)) * scale(row, column);
            case TARPON_ZERO_FLOAT:
                return code * scale(row, column) + zero(row, column);
        }
        return (code - (format.max_code() + 1) / 2) * scale(row, column);
    }
    // What of a weight a kernel may add up in two sums whose difference is small: code and minimum,
    // or the distances of code and zero point from the middle of the codes.
    double magnitude(int64_t row, int64_t column) const {
        const int code = codes[row * n + column], middle = (format.max_code() + 1) / 2;
        switch (format.zero_type) {
            case TARPON_ZERO_INTEGER:
                return (std::abs(code - middle) + std::fabs(zero(row, column) - middle)) *
                       std::fabs(scale(row, column));
            case TARPON_ZERO_FLOAT:
                return code * std::fabs(scale(row, column)) + std::fabs(zero(row, column));
        }
        return std::fabs(weight(row, column));
    }

    tarpon_linear_desc desc(tarpon_dtype dtype) const {
        tarpon_linear_desc desc{};
        desc.struct_size = sizeof desc;
        desc.weight_type = format.weight_type;
        desc.in_features = k;
        desc.out_features = n;
        desc.group_size = format.group_size;
        desc.activation_dtype = dtype;
        desc.zero_type = format.zero_type;
        desc.scale_type = format.scale_type;
        desc.sparsity = format.sparsity;
        return desc;
    }
    tarpon_linear_weights weights() const {
        tarpon_linear_weights weights{};
        weights.struct_size = sizeof weights;
        weights.layout = TARPON_LAYOUT_PLAIN;
        weights.qweight = codes.data();
        weights.qweight_bytes = codes.size();
        weights.scales = scales.data();
        weights.scales_bytes = scales.size();
        weights.zeros = zeros.empty() ? nullptr : zeros.data();
        weights.zeros_bytes = zeros.size();
        weights.bias = bias.empty() ? nullptr : bias.data();
        weights.bias_bytes = bias.size();
        weights.g_idx = g_idx.empty() ? nullptr : g_idx.data();
        weights.g_idx_bytes = 4 * g_idx.size();
        weights.out_features = n;
        return weights;
    }
};

// kExactInteger: power-of-two scales and minimums that are their multiples, so that with small
// integer activations every partial sum is exact in binary32.
inline FormatLayer make_format_layer(const Format &format, int64_t n, int64_t k, Values values,
                                     uint64_t seed) {
    const bool exact = values == Values::kExactInteger;
    const int64_t groups =
        format.group_size == -1 ? 1 : (k + format.group_size - 1) / format.group_size;
    FormatLayer layer{format, n, k, groups, {}, {}, {}, {}, {}};
    testing::Random random(seed);
    layer.codes.resize(n * k);
    for (uint8_t &code : layer.codes) {
        code = static_cast<uint8_t>(random.integer(0, format.max_code()));
        if (format.weight_type != TARPON_WEIGHT_FP8_E4M3) continue;
        // Exact sums want few bits: e4m3 numbers of 1 to 7.5, multiples of 1/8.
        if (exact) code = static_cast<uint8_t>((code & 0x80) | (56 + code % 24));
        if ((code & 0x7f) == 0x7f) code ^= 1;
    }
    if (format.sparsity == TARPON_SPARSITY_2_4) {
        for (int64_t k0 = 0; k0 < k; k0 += 4) {
            for (int64_t c = 0; c < n; ++c) {
                const int64_t first = random.integer(0, 3), second = random.integer(0, 3);
                for (int64_t r = k0; r < std::min(k, k0 + 4); ++r)
                    if (r != k0 + first && r != k0 + second) layer.codes[r * n + c] = 8;
            }
        }
    }
    const tarpon_dtype scale_dtype = format.scale_dtype();
    layer.scales.resize(groups * n * dtype_bytes(scale_dtype));
    if (format.zero_type == TARPON_ZERO_INTEGER) layer.zeros.resize(groups * n);
    if (format.zero_type == TARPON_ZERO_FLOAT) layer.zeros.resize(layer.scales.size());
    const double typical = format.weight_type == TARPON_WEIGHT_INT4   ? 0.01
                           : format.weight_type == TARPON_WEIGHT_INT8 ? 0.0006
                                                                      : 0.0004;
    for (int64_t i = 0; i < groups * n; ++i) {
        // GGUF's scales have either sign.
        const double sign = random.integer(0, 1) ? 1 : -1;
        const double scale =
            sign * (exact ? std::ldexp(1.0, static_cast<int>(random.integer(-3, 0)))
                          : random.uniform(0.2, 2) * typical);
        store(layer.scales.data(), scale_dtype, i, static_cast<float>(scale));
        if (format.zero_type == TARPON_ZERO_INTEGER)
            layer.zeros[i] = static_cast<char>(random.integer(0, format.max_code()));
        if (format.zero_type == TARPON_ZERO_FLOAT) {
            const double steps = exact ? static_cast<double>(random.integer(0, format.max_code()))
                                       : format.max_code() * random.uniform(0.3, 0.7);
            store(layer.zeros.data(), scale_dtype, i, static_cast<float>(-steps * scale));
        }
    }
    return layer;
}

// The sums of x*w and of what bounds a kernel's rounding, in binary64.
struct Product {
    std::vector<double> y, magnitude;  // [m, N]
};

inline Product multiply(const FormatLayer &layer, const std::vector<char> &x, tarpon_dtype dtype,
                        int64_t m) {
    Product out{std::vector<double>(m * layer.n), std::vector<double>(m * layer.n)};
    for (int64_t k = 0; k < layer.k; ++k) {
        for (int64_t n = 0; n < layer.n; ++n) {
            const double weight = layer.weight(k, n), magnitude = layer.magnitude(k, n);
            for (int64_t row = 0; row < m; ++row) {
                const double a = load(x.data(), dtype, row * layer.k + k);
                out.y[row * layer.n + n] += a * weight;
                out.magnitude[row * layer.n + n] += std::fabs(a) * magnitude;
            }
        }
    }
    if (layer.bias.empty()) return out;
    for (int64_t i = 0; i < m * layer.n; ++i) {
        const double bias = load(layer.bias.data(), dtype, i % layer.n);
        out.y[i] += bias;
        out.magnitude[i] += std::fabs(bias);
    }
    return out;
}

}  // namespace tarpon::test
