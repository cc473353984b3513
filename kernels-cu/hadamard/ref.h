// The transform in its plainest form, in place in any arithmetic type. In float it is the order of
// operations that every kernel keeps, so that all of them agree bit for bit: butterflies by rising
// stride, then the base matrix with its columns in order, then one multiplication by 1/sqrt(n).
#pragma once

#include <cmath>
#include <cstdint>

#include "hadamard/matrix.h"

namespace tarpon::hadamard {

// x [n] becomes H_n x; n must be a supported size.
template <class T>
void transform_reference(T *x, int64_t n) {
    const Size size = decompose(n);
    for (int64_t h = 1; h < size.power; h *= 2) {
        for (int64_t i = 0; i < n; ++i) {
            if (i & h) continue;
            const T a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
        }
    }
    if (size.base > 1) {
        const uint32_t *rows = base_rows(size.base);
        for (int64_t column = 0; column < size.power; ++column) {
            T in[kMaxBase];
            for (int j = 0; j < size.base; ++j)
                in[j] = x[j * size.power + column];
            for (int i = 0; i < size.base; ++i) {
                T sum = rows[i] & 1 ? -in[0] : in[0];
                for (int j = 1; j < size.base; ++j)
                    sum = rows[i] >> j & 1 ? sum - in[j] : sum + in[j];
                x[i * size.power + column] = sum;
            }
        }
    }
    const T scale = T(1.0 / std::sqrt(double(n)));
    for (int64_t i = 0; i < n; ++i)
        x[i] *= scale;
}

}  // namespace tarpon::hadamard
