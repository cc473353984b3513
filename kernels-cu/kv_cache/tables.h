// Tables that kernels read, made once for a plan: of attention's mean term, and of mode rotatekv's
// order. Host only.
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

// Mode rotatekv: for every channel of the rotated key, where the stored channel lies that it became.
// order [kv_heads * head_dim].
inline std::vector<KeyPlace> key_places(const Format &f, const std::vector<int32_t> &order) {
    const BlockLayout layout = block_layout(f);
    const int width = f.k_bits == 3 ? 2 : f.k_bits, per_word = 32 / width;
    std::vector<KeyPlace> places(order.size());
    for (size_t stored = 0; stored < order.size(); ++stored) {
        const int head = int(stored) / f.head_dim, channel = int(stored) % f.head_dim;
        const int block = head * layout.bytes, codes = block + layout.k_codes;
        places[order[stored]] = {
            codes + 4 * k_word_index(f.head_dim, width, 0, channel / per_word),
            codes + f.page_tokens * f.head_dim / 4 +
                4 * k_word_index(f.head_dim, 1, 0, channel / 32),
            block + layout.k_scales + 2 * scale_index(f, channel / group_channels(f), 0),
            uint16_t(channel % per_word * width), uint16_t(channel % 32)};
    }
    return places;
}

}  // namespace tarpon::kv_cache
