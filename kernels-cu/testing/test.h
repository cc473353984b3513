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

template <class A, class B>
bool check_equal(const A &actual, const B &expected, const char *file, int line,
                 const char *expression, const std::string &coordinates) {
    if (equal(actual, expected)) return true;
    fail(file, line,
         coordinates + (coordinates.empty() ? "" : ": ") + expression + " is " + show(actual) +
             ", expected " + show(expected));
    return false;
}

bool check_true(bool holds, const char *file, int line, const char *expression,
                const std::string &coordinates);

// Within `tolerance`; NaN never is.
bool check_near(double actual, double expected, double tolerance, const char *file, int line,
                const char *expression, const std::string &coordinates);

}  // namespace tarpon::testing

#define TARPON_TEST(test_name)                                 \
    static void test_name();                                   \
    [[maybe_unused]] static const int test_name##_registered = \
        ::tarpon::testing::add_test(#test_name, &test_name);   \
    static void test_name()

// Further arguments of the checks: a printf pattern and its values, the coordinates of the check.
#define CHECK(condition, ...)                                                      \
    ::tarpon::testing::check_true(bool(condition), __FILE__, __LINE__, #condition, \
                                  ::tarpon::testing::format(__VA_ARGS__))

#define CHECK_EQ(actual, expected, ...)                                               \
    ::tarpon::testing::check_equal((actual), (expected), __FILE__, __LINE__, #actual, \
                                   ::tarpon::testing::format(__VA_ARGS__))

#define CHECK_NEAR(actual, expected, tolerance, ...)                                              \
    ::tarpon::testing::check_near((actual), (expected), (tolerance), __FILE__, __LINE__, #actual, \
                                  ::tarpon::testing::format(__VA_ARGS__))

// Like CHECK, but ends the test if it fails.
#define REQUIRE(condition, ...)                                                 \
    do {                                                                        \
        if (!CHECK(condition, __VA_ARGS__)) throw ::tarpon::testing::Stopped{}; \
    } while (0)

#define SKIP(...) ::tarpon::testing::skip(__VA_ARGS__)
