// A test harness without dependencies, for kernels (nvcc and simulator) and host code alike.
//
//     TARPON_TEST(test_pack_round_trip) {
//         for (int k = 0; k < rows; ++k) CHECK_EQ(unpacked[k], codes[k], "k %d of %d", k, rows);
//     }
//
// A test may end early with SKIP("why"). main() is in tarpon_testing:
//     <program> [--filter TEXT | TEXT] [--list]
// runs the tests whose names contain TEXT, prints failures with both values and the coordinates
// given to the check, names what was skipped, and ends with `N passed, N failed, N skipped`.
// Exit status: 0, 1 if a test failed, 77 if all that ran were skipped (ctest's SKIP_RETURN_CODE).
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "common/types.h"

namespace tarpon::testing {

struct Test {
    const char *name;
    void (*body)();
};

// Called before main by TARPON_TEST.
int add_test(const char *name, void (*body)());

int run(int argc, char **argv);

// Ends the running test.
struct Skipped {
    std::string reason;
};
struct Stopped {};  // after a failed REQUIRE
[[noreturn]] void skip(const char *reason, ...) __attribute__((format(printf, 1, 2)));

// Notes a failure of the running test; only the first few of a test are printed.
void fail(const char *file, int line, const std::string &what);

std::string format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));
inline std::string format() {
    return {};
}

// How values look in a failure: floating point with its bits, so that close values differ.
std::string show(double value);
std::string show(float value);
std::string show(half_t value);
std::string show(bf16_t value);
std::string show(const std::string &value);
template <class T>
std::string show(const T &value) {
    if constexpr (std::is_same_v<T, bool>) {
        return value ? "true" : "false";
    } else if constexpr (std::is_enum_v<T>) {
        return format("%lld", static_cast<long long>(value));
    } else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
        return format("%lld", static_cast<long long>(value));
    } else if constexpr (std::is_integral_v<T>) {
        return format("%llu (0x%llx)", static_cast<unsigned long long>(value),
                      static_cast<unsigned long long>(value));
    } else if constexpr (std::is_convertible_v<T, std::string>) {
        return show(std::string(value));
    } else {
        static_assert(std::is_pointer_v<T>, "no way to print this type");
        return format("%p", static_cast<const void *>(value));
    }
}

template <class A, class B>
bool equal(const A &actual, const B &expected) {
    if constexpr (std::is_convertible_v<A, std::string> && std::is_convertible_v<B, std::string>) {
        return std::string(actual) == std::string(expected);
    } else {
        return actual == expected;
    }
}

inline bool near(double actual, double expected, double tolerance) {
    return actual == expected || (actual >= expected - tolerance && actual <= expected + tolerance);
}

// What failed checks say; they return false.
bool fail_condition(const char *file, int line, const char *expression,
                    const std::string &coordinates);
bool fail_equal(const char *file, int line, const char *expression, const std::string &actual,
                const std::string &expected, const std::string &coordinates);
bool fail_near(const char *file, int line, const char *expression, double actual, double expected,
               double tolerance, const std::string &coordinates);

}  // namespace tarpon::testing

#define TARPON_TEST(test_name)                                 \
    static void test_name();                                   \
    [[maybe_unused]] static const int test_name##_registered = \
        ::tarpon::testing::add_test(#test_name, &test_name);   \
    static void test_name()

// Each check yields whether it held. Further arguments are the coordinates: a printf pattern and its
// values, which are formatted only if the check fails.
#define CHECK(condition, ...)                                                        \
    ((condition) ? true                                                              \
                 : ::tarpon::testing::fail_condition(__FILE__, __LINE__, #condition, \
                                                     ::tarpon::testing::format(__VA_ARGS__)))

#define CHECK_EQ(actual, expected, ...)                                                      \
    [&](const auto &tarpon_actual, const auto &tarpon_expected) {                            \
        return ::tarpon::testing::equal(tarpon_actual, tarpon_expected)                      \
                   ? true                                                                    \
                   : ::tarpon::testing::fail_equal(__FILE__, __LINE__, #actual,              \
                                                   ::tarpon::testing::show(tarpon_actual),   \
                                                   ::tarpon::testing::show(tarpon_expected), \
                                                   ::tarpon::testing::format(__VA_ARGS__));  \
    }((actual), (expected))

// Within `tolerance`; NaN never is.
#define CHECK_NEAR(actual, expected, tolerance, ...)                                          \
    [&](double tarpon_actual, double tarpon_expected, double tarpon_tolerance) {              \
        return ::tarpon::testing::near(tarpon_actual, tarpon_expected, tarpon_tolerance)      \
                   ? true                                                                     \
                   : ::tarpon::testing::fail_near(__FILE__, __LINE__, #actual, tarpon_actual, \
                                                  tarpon_expected, tarpon_tolerance,          \
                                                  ::tarpon::testing::format(__VA_ARGS__));    \
    }((actual), (expected), (tolerance))

// Like CHECK, but ends the test if it fails.
#define REQUIRE(condition, ...)                                                 \
    do {                                                                        \
        if (!CHECK(condition, __VA_ARGS__)) throw ::tarpon::testing::Stopped{}; \
    } while (0)

#define SKIP(...) ::tarpon::testing::skip(__VA_ARGS__)
