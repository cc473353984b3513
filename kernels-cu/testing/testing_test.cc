// The harness's own parts: comparison, guards, random numbers. Run alone: testing_test.
#include <cmath>
#include <limits>
#include <vector>

#include "testing/compare.h"
#include "testing/guarded.h"
#include "testing/random.h"
#include "testing/test.h"
#include "testing/timer.h"

namespace tarpon::testing {
namespace {

Difference compare_vectors(std::vector<float> actual, std::vector<double> expected) {
    return compare(std::span<const float>(actual), std::span<const double>(expected));
}

TARPON_TEST(test_compare_mean_and_worst) {
    const Difference d = compare_vectors({1, 2, 3, 5}, {1, 2, 3, 4});
    CHECK_NEAR(d.mean_relative, 0.1, 1e-12);
    CHECK_EQ(d.max_absolute, 1.0);
    CHECK_EQ(d.worst, size_t(3));
    CHECK_EQ(d.describe(2), "mean relative 0.1, worst at (1, 1): 5, expected 4; 0 NaN");
}

TARPON_TEST(test_compare_sees_nan_and_infinity) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Difference d = compare_vectors({1, nan, 3}, {1, 2, 3});
    CHECK_EQ(d.nans, size_t(1));
    CHECK_EQ(d.worst, size_t(1));
    CHECK(std::isinf(d.mean_relative));
    CHECK(std::isinf(compare_vectors({INFINITY}, {65504}).max_absolute));
    CHECK_EQ(compare_vectors({INFINITY}, {INFINITY}).max_absolute, 0.0);
}

TARPON_TEST(test_guards_see_writes_outside) {
    GuardedBuffer<float> buffer(5);
    CHECK(std::isnan(buffer[0]));
    for (size_t i = 0; i < buffer.size(); ++i)
        buffer[i] = 1;
    CHECK(buffer.guards_intact());
    buffer.data()[5] = 1;
    CHECK(!buffer.guards_intact());
    GuardedBuffer<uint16_t> other(3);
    other.data()[-1] = 0;
    CHECK(!other.guards_intact());
}

TARPON_TEST(test_random_is_reproducible_and_uniform) {
    Random a(1), b(1), c(2);
    const uint64_t first = a.bits();
    CHECK_EQ(b.bits(), first);
    CHECK(c.bits() != first);
    CHECK_EQ(Random(1234567).bits(), uint64_t(6457827717110365317u));  // the authors' first value
    double sum = 0, squares = 0;
    constexpr int kCount = 100000;
    for (int i = 0; i < kCount; ++i) {
        const double x = a.normal();
        sum += x;
        squares += x * x;
    }
    CHECK_NEAR(sum / kCount, 0, 5 / std::sqrt(double(kCount)));
    CHECK_NEAR(squares / kCount, 1, 5 * std::sqrt(2.0 / kCount));
    for (int i = 0; i < 1000; ++i) {
        const int64_t n = a.integer(-3, 4);
        CHECK(n >= -3 && n <= 4, "n %d", int(n));
    }
}

TARPON_TEST(test_best_seconds_takes_the_shortest) {
    int runs = 0;
    const double seconds = best_seconds(3, [&] { ++runs; });
    CHECK_EQ(runs, 3);
    CHECK(seconds >= 0 && seconds < 1);
}

}  // namespace
}  // namespace tarpon::testing
