// How far a result is from its reference.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "common/types.h"
#include "testing/test.h"

namespace tarpon::testing {

struct Difference {
    double mean_relative = 0;  // mean |actual - expected| / mean |expected|
    double max_absolute = 0;
    size_t worst = 0;  // index of the largest difference, or of the first NaN
    double worst_actual = 0;
    double worst_expected = 0;
    size_t nans = 0;  // of actual, where expected is none

    // "mean relative 3.1e-04, worst at (2, 17): 1.5 expected 1.25, 0 NaN" for `columns` a row.
    std::string describe(size_t columns) const {
        return format("mean relative %.3g, worst at (%zu, %zu): %.9g, expected %.9g; %zu NaN",
                      mean_relative, worst / columns, worst % columns, worst_actual, worst_expected,
                      nans);
    }
};

inline double to_double(double value) {
    return value;
}
template <class T>
double to_double(T value) {
    return double(to_float(value));
}

// A NaN in `actual` that is none in `expected` makes mean_relative and max_absolute infinite.
template <class A, class B>
Difference compare(std::span<const A> actual, std::span<const B> expected) {
    Difference out;
    double sum = 0, reference = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
        const double a = to_double(actual[i]), e = to_double(expected[i]);
        const bool nan = std::isnan(a) && !std::isnan(e);
        const double distance = nan || std::isinf(a) != std::isinf(e) ? INFINITY
                                : a == e || std::isnan(e)             ? 0
                                                                      : std::fabs(a - e);
        out.nans += nan;
        sum += distance;
        reference += std::fabs(e);
        if (distance > out.max_absolute) {
            out.max_absolute = distance;
            out.worst = i;
            out.worst_actual = a;
            out.worst_expected = e;
        }
    }
    out.mean_relative = sum == 0 ? 0 : sum / reference;
    return out;
}

}  // namespace tarpon::testing
