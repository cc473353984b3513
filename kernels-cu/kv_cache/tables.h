// Tables that attention's mean term reads, made once for a plan. Host only.
#pragma once

#include <cstdint>
#include <vector>

#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

// Pairs of RoPE whose mean is not zero: only those cost time (AttendParams).
struct MeanPairs {
    std::vector<int32_t> pairs, counts;
    std::vector<PairMean> means;
    int stride;

    // mean [kv_heads, head_dim], or null.
    MeanPairs(const float *mean, const Format &f, const RopeTables &rope) {
        constexpr int kPadding = 8;  // pairs that a step of the kernel takes
        stride = (rope.pairs + kPadding - 1) / kPadding * kPadding;
        pairs.assign(size_t(f.kv_heads) * stride, 0);
        means.assign(pairs.size(), {0, 0});
        for (int head = 0; head < f.kv_heads; ++head) {
            const float *own = mean ? mean + int64_t{head} * f.head_dim : nullptr;
            int count = 0;
            for (int pair = 0; own && pair < rope.pairs; ++pair) {
                const PairMean both{own[rope_first(rope, pair)], own[rope_second(rope, pair)]};
                if (both.first == 0 && both.second == 0) continue;
                pairs[size_t(head) * stride + count] = pair;
                means[size_t(head) * stride + count++] = both;
            }
            counts.push_back((count + kPadding - 1) / kPadding * kPadding);
        }
    }
};

// For each tile of a chunk, pair and lane group.
inline std::vector<TurnFragment> turn_fragments(const RopeTables &rope) {
    std::vector<TurnFragment> fragments;
    const auto word = [](float cos, float sin) {
        return from_float<half_t>(cos).bits | uint32_t{from_float<half_t>(sin).bits} << 16;
    };
    const auto rest = [](float x) { return x - to_float(from_float<half_t>(x)); };
    for (int tile = 0; tile < kChunkTokens; tile += 16) {
        for (int pair = 0; pair < rope.pairs; ++pair) {
            for (int token = tile; token < tile + 16; token += 2) {
                const CosSin even = rope.low[token * rope.pairs + pair],
                             odd = rope.low[(token + 1) * rope.pairs + pair];
                fragments.push_back({word(even.cos, even.sin), word(odd.cos, odd.sin),
                                     word(rest(even.cos), rest(even.sin)),
                                     word(rest(odd.cos), rest(odd.sin))});
            }
        }
    }
    return fragments;
}

}  // namespace tarpon::kv_cache
