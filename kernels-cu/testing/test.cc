// The test runner: registry, options, what is printed. See test.h.
#include "testing/test.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace tarpon::testing {
namespace {

constexpr int kExitAllSkipped = 77;
constexpr int kPrintedFailures = 10;  // of one test

struct Registry {
    std::vector<Test> tests;
};

Registry &registry() {
    static Registry instance;
    return instance;
}

int failures_of_test = 0;

std::string vformat(const char *pattern, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    const int length = std::vsnprintf(nullptr, 0, pattern, again);
    va_end(again);
    std::string text(size_t(length), '\0');
    std::vsnprintf(text.data(), size_t(length) + 1, pattern, arguments);
    return text;
}

enum class Outcome { kPassed, kFailed, kSkipped };

Outcome run_one(const Test &test, std::string &skip_reason) {
    failures_of_test = 0;
    try {
        test.body();
    } catch (const Skipped &skipped) {
        skip_reason = skipped.reason;
        if (failures_of_test == 0) return Outcome::kSkipped;
    } catch (const Stopped &) {
        // the failure has been noted
    } catch (const std::exception &error) {
        fail(test.name, 0, std::string("an exception ended the test: ") + error.what());
    }
    if (failures_of_test > kPrintedFailures) {
        std::printf("    and %d more failures\n", failures_of_test - kPrintedFailures);
    }
    return failures_of_test ? Outcome::kFailed : Outcome::kPassed;
}

}  // namespace

int add_test(const char *name, void (*body)()) {
    registry().tests.push_back({name, body});
    return int(registry().tests.size());
}

std::string format(const char *pattern, ...) {
    va_list arguments;
    va_start(arguments, pattern);
    std::string text = vformat(pattern, arguments);
    va_end(arguments);
    return text;
}

void skip(const char *reason, ...) {
    va_list arguments;
    va_start(arguments, reason);
    std::string text = vformat(reason, arguments);
    va_end(arguments);
    throw Skipped{text};
}

void fail(const char *file, int line, const std::string &what) {
    if (++failures_of_test > kPrintedFailures) return;
    const char *slash = std::strrchr(file, '/');
    std::printf("    %s:%d: %s\n", slash ? slash + 1 : file, line, what.c_str());
}

std::string show(double value) {
    return format("%.17g", value);
}
std::string show(float value) {
    return format("%.9g (0x%08x)", double(value), std::bit_cast<uint32_t>(value));
}
std::string show(half_t value) {
    return format("%.5g (half 0x%04x)", double(to_float(value)), unsigned(value.bits));
}
std::string show(bf16_t value) {
    return format("%.4g (bf16 0x%04x)", double(to_float(value)), unsigned(value.bits));
}
std::string show(const std::string &value) {
    return "\"" + value + "\"";
}

bool fail_condition(const char *file, int line, const char *expression,
                    const std::string &coordinates) {
    fail(file, line, coordinates + (coordinates.empty() ? "" : ": ") + "not true: " + expression);
    return false;
}

bool fail_equal(const char *file, int line, const char *expression, const std::string &actual,
                const std::string &expected, const std::string &coordinates) {
    fail(file, line,
         coordinates + (coordinates.empty() ? "" : ": ") + expression + " is " + actual +
             ", expected " + expected);
    return false;
}

bool fail_near(const char *file, int line, const char *expression, double actual, double expected,
               double tolerance, const std::string &coordinates) {
    fail(file, line,
         coordinates + (coordinates.empty() ? "" : ": ") +
             format("%s is %.9g, expected %.9g +- %.3g (off by %.3g)", expression, actual, expected,
                    tolerance, actual - expected));
    return false;
}

int run(int argc, char **argv) {
    const char *filter = "";
    bool list = false;
    for (int i = 1; i < argc; ++i) {
        if (!std::strcmp(argv[i], "--list")) {
            list = true;
        } else if (!std::strcmp(argv[i], "--filter") && i + 1 < argc) {
            filter = argv[++i];
        } else if (!std::strncmp(argv[i], "--filter=", 9)) {
            filter = argv[i] + 9;
        } else if (argv[i][0] != '-') {
            filter = argv[i];
        } else {
            std::fprintf(stderr, "unknown option %s\nusage: %s [--list] [[--filter] TEXT]\n",
                         argv[i], argv[0]);
            return 2;
        }
    }
    int passed = 0, failed = 0, skipped = 0;
    for (const Test &test : registry().tests) {
        if (!std::strstr(test.name, filter)) continue;
        if (list) {
            std::printf("%s\n", test.name);
            continue;
        }
        std::string reason;
        const auto start = std::chrono::steady_clock::now();
        const Outcome outcome = run_one(test, reason);
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        switch (outcome) {
            case Outcome::kPassed:
                ++passed;
                std::printf("passed   %s (%.2f s)\n", test.name, seconds);
                break;
            case Outcome::kFailed:
                ++failed;
                std::printf("FAILED   %s (%.2f s)\n", test.name, seconds);
                break;
            case Outcome::kSkipped:
                ++skipped;
                std::printf("skipped  %s: %s\n", test.name, reason.c_str());
                break;
        }
        std::fflush(stdout);
    }
    if (list) return 0;
    if (passed + failed + skipped == 0) {
        std::fprintf(stderr, "no test has \"%s\" in its name\n", filter);
        return 2;
    }
    std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    if (failed) return 1;
    return passed == 0 ? kExitAllSkipped : 0;
}

}  // namespace tarpon::testing
