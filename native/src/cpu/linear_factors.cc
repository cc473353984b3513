#include "cpu/linear_factors.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/linear_kernel.h"
#include "types.h"

namespace tarpon::cpu {
namespace {

constexpr int kLargestCode = 63;
constexpr int64_t kColumns = 64;  // of a task

// Whether values[i] = codes[i] * super for all i, for the binary16 number super.
bool codes_of(const float *values, int count, float super, uint8_t *codes) {
    for (int i = 0; i < count; ++i) {
        const float code = std::nearbyint(values[i] / super);
        if (!(code >= 0.0f && code <= kLargestCode) || code * super != values[i]) return false;
        codes[i] = static_cast<uint8_t>(code);
    }
    return true;
}

// Tries every code that the largest value may have. Its super scale is found if there is one: the
// quotient of an exact product is exact.
bool factor(const float *values, int count, uint8_t *codes, uint16_t *super) {
    float largest = 0.0f;
    for (int i = 0; i < count; ++i) {
        if (std::fabs(values[i]) > std::fabs(largest)) largest = values[i];
    }
    if (largest == 0.0f) {
        std::fill(codes, codes + count, uint8_t{0});
        *super = 0;
        return true;
    }
    for (int code = kLargestCode; code >= 1; --code) {
        const half_t half = from_float<half_t>(largest / static_cast<float>(code));
        *super = half.bits;
        if (half.bits << 1 != 0 && codes_of(values, count, to_float(half), codes)) return true;
    }
    return false;
}

}  // namespace

std::optional<Factors> find_factors(ThreadPool &pool, const float *values, int64_t groups,
                                    int64_t n) {
    const int64_t supers = (groups + kSuperGroups - 1) / kSuperGroups;
    Factors factors{std::vector<uint8_t>(static_cast<size_t>(groups * n)),
                    std::vector<uint16_t>(static_cast<size_t>(supers * n))};
    struct Job {
        const float *values;
        int64_t groups, n;
        Factors &factors;
        mutable std::atomic<bool> found{true};
    } job{values, groups, n, factors, true};
    pool.run((n + kColumns - 1) / kColumns,
             [](const void *context, int64_t task) noexcept {
                 const auto &job = *static_cast<const Job *>(context);
                 const int64_t end = std::min((task + 1) * kColumns, job.n);
                 for (int64_t first = 0; first < job.groups; first += kSuperGroups) {
                     const int count =
                         static_cast<int>(std::min<int64_t>(job.groups - first, kSuperGroups));
                     for (int64_t c = task * kColumns; c < end; ++c) {
                         if (!job.found.load(std::memory_order_relaxed)) return;
                         float column[kSuperGroups];
                         uint8_t codes[kSuperGroups];
                         for (int i = 0; i < count; ++i)
                             column[i] = job.values[(first + i) * job.n + c];
                         const auto super = static_cast<size_t>(first / kSuperGroups * job.n + c);
                         if (!factor(column, count, codes, &job.factors.super[super])) {
                             job.found.store(false, std::memory_order_relaxed);
                             return;
                         }
                         for (int i = 0; i < count; ++i)
                             job.factors.codes[static_cast<size_t>((first + i) * job.n + c)] =
                                 codes[i];
                     }
                 }
             },
             &job);
    if (!job.found.load()) return std::nullopt;
    return factors;
}

}  // namespace tarpon::cpu
