// The reference of the W4 GEMM: y = x * W + bias + residual in binary64, from weights in plain
// order, whatever their format.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/types.h"
#include "w4_gemm/prepare.h"

namespace tarpon::w4_gemm {

// An e4m3 number: sign, four bits of exponent with bias 7, three of mantissa (OCP, "fn").
inline double e4m3_value(uint8_t bits) {
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    return bits & 0x80 ? -magnitude : magnitude;
}

// W[k, n], exactly.
inline double weight_at(const PlainWeights &w, int64_t k, int64_t n) {
    const uint8_t code = w.codes[k * w.n + n];
    const int64_t group = w.groups == 1 ? 0 : k / w.group_size;
    const int64_t at = group * w.n + n;
    const double scale = detail::scale_at(w.scales, w.scale_type, at);
    if (w.code_type == CodeType::kFp8E4m3) return e4m3_value(code) * scale;
    switch (w.zero_type) {
        case ZeroType::kSymmetric:
            break;
        case ZeroType::kInteger:
            return (code - static_cast<const uint8_t *>(w.zeros)[at]) * scale;
        case ZeroType::kFloat:
            return code * scale + detail::scale_at(w.zeros, w.scale_type, at);
    }
    return (code - (w.code_type == CodeType::kInt4 ? 8 : 128)) * scale;
}

struct Reference {
    std::vector<double> y;  // [m, n]
    std::vector<double>
        magnitude;  // [m, n]: sum of what is added, without signs; rounding errors scale with it
};

// x [m, k]; row i of W takes column permutation[i] of x, or i if it is null. bias [n] and residual
// [m, n] may be null.
template <class T>
Reference reference(const T *x, const PlainWeights &weights, int64_t m, const int32_t *permutation,
                    const T *bias, const T *residual) {
    const int64_t n = weights.n, k = weights.k;
    Reference out{std::vector<double>(static_cast<size_t>(m * n)),
                  std::vector<double>(static_cast<size_t>(m * n))};
    std::vector<double> w(static_cast<size_t>(n));
    const auto add = [&](int64_t row, int64_t column, double value) {
        out.y[static_cast<size_t>(row * n + column)] += value;
        out.magnitude[static_cast<size_t>(row * n + column)] += std::fabs(value);
    };
    for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < n; ++j)
            w[static_cast<size_t>(j)] = weight_at(weights, i, j);
        for (int64_t row = 0; row < m; ++row) {
            const double a = to_float(x[row * k + (permutation ? permutation[i] : i)]);
            for (int64_t j = 0; j < n; ++j)
                add(row, j, a * w[static_cast<size_t>(j)]);
        }
    }
    for (int64_t i = 0; i < m * n; ++i) {
        if (bias) add(i / n, i % n, to_float(bias[i % n]));
        if (residual) add(i / n, i % n, to_float(residual[i]));
    }
    return out;
}

}  // namespace tarpon::w4_gemm
