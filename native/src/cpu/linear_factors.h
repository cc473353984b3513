// Scales of two levels, found in scales of one: GGUF's Q4_K comes with a binary32 scale and minimum
// for each 32 inputs, each the exact product of six bits and a binary16 number that eight groups
// share. Stored so they take 2.5 bytes of a group instead of 8, and give the same bits.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend.h"
#include "cpu/thread_pool.h"

namespace tarpon::cpu {

// value[g][column] = codes[g][column] * super[g / kSuperGroups][column], in binary32.
struct Factors {
    std::vector<uint8_t> codes;   // [groups, n]
    std::vector<uint16_t> super;  // binary16 [ceil(groups / kSuperGroups), n]
};

// Of binary32 values [groups, n]; none if any of them is not such a product.
std::optional<Factors> find_factors(ThreadPool &pool, const float *values, int64_t groups,
                                    int64_t n);

}  // namespace tarpon::cpu
