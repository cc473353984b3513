// The reference of the W4 GEMM: y = x * W in binary64, from weights in plain order.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/types.h"

namespace tarpon::w4_gemm {

struct Reference {
    std::vector<double> y;  // [m, n]
    std::vector<double>
        magnitude;  // [m, n]: sum over k of |x * w|, what rounding errors scale with
};

// x [m, k]; codes uint8 [k, n]; scales binary16 [groups, n].
template <class T>
Reference reference(const T *x, const uint8_t *codes, const uint16_t *scales, int64_t m, int64_t n,
                    int64_t k, int64_t group_size) {
    Reference out{std::vector<double>(static_cast<size_t>(m * n)),
                  std::vector<double>(static_cast<size_t>(m * n))};
    std::vector<double> w(static_cast<size_t>(n));
    for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < n; ++j) {
            const half_t scale{scales[i / group_size * n + j]};
            w[static_cast<size_t>(j)] =
                (codes[i * n + j] - 8) * static_cast<double>(to_float(scale));
        }
        for (int64_t row = 0; row < m; ++row) {
            const double a = to_float(x[row * k + i]);
            double *y = &out.y[static_cast<size_t>(row * n)];
            double *magnitude = &out.magnitude[static_cast<size_t>(row * n)];
            for (int64_t j = 0; j < n; ++j) {
                const double product = a * w[static_cast<size_t>(j)];
                y[j] += product;
                magnitude[j] += std::fabs(product);
            }
        }
    }
    return out;
}

}  // namespace tarpon::w4_gemm
