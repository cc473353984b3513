// Append in mode tarpon: a block takes a tile of tokens, one head after the other, and a warp a key or
// a value at a time from the model's layout to codes: QK-norm, mean, RoPE, rotation, step and scale,
// packing. Keys are gathered in shared memory, since the page has the same channels of 16 tokens side
// by side. And what the other mode (append_rotatekv.cuh) shares of it. Launched by append.cu.
// The codes are those of ref.h, bit for bit.
#pragma once

#include "common/launch.cuh"
#include "kv_cache/config.h"
#include "kv_cache/vector.cuh"

namespace tarpon::kv_cache {

// [warp] Packs `width` bits from bit `shift` up of the codes that follow one another over the
// lanes, lowest first, into words, and calls put(w, word) in the lane that has word w.
template <int kHeadDim, class Put>
TARPON_DEVICE void pack_plane(const uint32_t (&codes)[HeadVector<kHeadDim>::kElems], int width,
                              int shift, Put put) {
    using Head = HeadVector<kHeadDim>;
    constexpr int kElems = Head::kElems;
    const uint32_t mask = (1u << width) - 1;
    const int lane = ptx::lane_id();
    if (kElems * width <= 32) {  // lanes share a word, or have one each
        uint32_t word = 0;
        TARPON_UNROLL
        for (int i = 0; i < kElems; ++i)
            word |= (codes[i] >> shift & mask) << i * width;
        const int sharing = 32 / (kElems * width);
        word <<= lane % sharing * kElems * width;
        for (int m = 1; m < sharing; m *= 2)
            word |= ptx::shfl_xor(word, m);
        if (Head::owns() && lane % sharing == 0) put(lane / sharing, word);
    } else if (width == 16) {
        TARPON_UNROLL
        for (int i = 0; i < kElems; i += 2) {
            if (Head::owns()) put((lane * kElems + i) / 2, codes[i] | codes[i + 1] << 16);
        }
    } else if constexpr (kElems == 8) {  // width 8
        TARPON_UNROLL
        for (int i = 0; i < kElems; i += 4) {
            put((lane * kElems + i) / 4,
                codes[i] | codes[i + 1] << 8 | codes[i + 2] << 16 | codes[i + 3] << 24);
        }
    }
}

// The channel at position `at` of a row of V codes: a chunk's lane after the other (format.h).
TARPON_DEVICE int v_channel(int at) {
    return at / kChunkChannels * kChunkChannels + at % kChunkChannels / 4 + kChunkLanes * (at % 4);
}

// How many lanes have the channels of one scale in mode rotatekv.
template <int kHeadDim>
TARPON_LAYOUT int range_lanes() {
    return kHeadDim > kGroupChannels ? 32 * kGroupChannels / kHeadDim : 32;
}

// [warp] asymmetric_range() of scheme.h of the channels x that the lanes of a group have.
template <int kHeadDim>
TARPON_DEVICE AsymmetricCode group_range(const float (&x)[HeadVector<kHeadDim>::kElems], int bits) {
    using Head = HeadVector<kHeadDim>;
    float low = Head::owns() ? x[0] : INFINITY, high = Head::owns() ? x[0] : -INFINITY;
    TARPON_UNROLL
    for (int i = 1; Head::owns() && i < Head::kElems; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    TARPON_UNROLL
    for (int mask = range_lanes<kHeadDim>() / 2; mask > 0; mask /= 2) {
        const float other_low = ptx::shfl_xor(low, mask), other_high = ptx::shfl_xor(high, mask);
        low = other_low < low ? other_low : low;
        high = other_high > high ? other_high : high;
    }
    const float clip = rotatekv_clip(bits);
    return asymmetric_range(mul_rn(low, clip), mul_rn(high, clip), bits);
}

// [warp] Codes of the vector in `row` (share_vector), and what they are relative to: the scale, and
// in mode rotatekv the zero point, of the group that the lane's channels belong to. The lane's codes
// are those of channel_of(position) for its kElems positions.
template <int kHeadDim, Scheme kScheme, class ChannelOf>
TARPON_DEVICE StoredRange encode_vector(const float *row, int bits, ChannelOf channel_of,
                                        uint32_t (&codes)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    float x[Head::kElems];
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i)
        x[i] = Head::owns() ? ptx::ld_shared(&row[channel_of(Head::channel(i))]) : 0.0f;
    if (bits == 16) {
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i)
            codes[i] = saturate_half(x[i]).bits;
        return {};
    }
    if constexpr (kScheme == Scheme::kTarpon) {
        const Grid grid = shared_grid<kHeadDim>(row, bits);
        const float inverse = grid_inverse(grid.step);
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i)
            codes[i] = GridCode(x[i], inverse, bits).code();
        return {grid.scale, {}};
    } else {
        AsymmetricCode range = group_range<kHeadDim>(x, bits);
        const StoredRange stored = stored_range(range);
        range.zero = to_float(stored.zero);
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i)
            codes[i] = asymmetric_code(x[i], range, bits);
        return stored;
    }
}

// Writes what encode_vector() gave: one lane of each group does.
template <int kHeadDim, Scheme kScheme>
TARPON_DEVICE void store_range(const Format &f, uint8_t *scales, uint8_t *zeros, int token,
                               StoredRange range) {
    constexpr int kSharing = range_lanes<kHeadDim>();
    const int group = ptx::lane_id() / kSharing;
    if (ptx::lane_id() % kSharing != 0 || group >= scale_groups(f)) return;
    const int at = scale_index(f, group, token);
    ptx::st_global(reinterpret_cast<half_t *>(scales) + at, range.scale);
    if constexpr (kScheme == Scheme::kRotatekv)
        ptx::st_global(reinterpret_cast<half_t *>(zeros) + at, range.zero);
}

// [warp] The value in `row` to place `token` of a head's block.
template <int kHeadDim, Scheme kScheme>
TARPON_DEVICE void store_value_codes(const PlanParams &plan, const float *row, int token,
                                     uint8_t *block) {
    const Format &f = plan.format;
    uint32_t codes[HeadVector<kHeadDim>::kElems];
    const StoredRange range = encode_vector<kHeadDim, kScheme>(
        row, f.v_bits,
        [&](int position) { return f.v_bits == 16 ? position : v_channel(position); }, codes);
    const auto store = [&](int width, int shift, uint8_t *plane) {
        auto *words = reinterpret_cast<uint32_t *>(plane) + token * (kHeadDim * width / 32);
        pack_plane<kHeadDim>(codes, width, shift,
                             [&](int w, uint32_t word) { ptx::st_global(&words[w], word); });
    };
    uint8_t *plane = block + plan.layout.v_codes;
    store(f.v_bits == 3 ? 2 : f.v_bits, 0, plane);
    if (f.v_bits == 3) store(1, 2, plane + f.page_tokens * kHeadDim / 4);
    if (has_scales(f.v_bits))
        store_range<kHeadDim, kScheme>(f, block + plan.layout.v_scales, block + plan.layout.v_zeros,
                                       token, range);
}

// Where a token goes.
struct alignas(8) TokenPlace {
    int position;
    int place;       // in its page
    uint8_t *page;   // null: nowhere
    half_t *recent;  // its entry of the recent store: as a sink, or within the ring; or null
};

// [warp]
TARPON_DEVICE TokenPlace find_place(const AppendParams &p, int64_t token) {
    const PlanParams &plan = p.plan;
    const Format &f = plan.format;
    TokenPlace t{};
    const int64_t slot = ptx::ld_global_nc(&p.slots[token]);
    if (slot < 0) return t;
    t.position = ptx::ld_global_nc(&p.positions[token]);
    t.place = int(slot % f.page_tokens);
    t.page = p.pages + slot / f.page_tokens * (int64_t{f.kv_heads} * plan.layout.bytes);
    if (plan.sink_tokens + plan.ring_tokens == 0) return t;
    const int row = ptx::ld_global_nc(&p.rows[token]);
    const int64_t entry = recent_entry(p, row, t.position, plan.ring_tokens);
    if (entry >= 0) t.recent = p.recent + entry * (int64_t{2} * f.kv_heads * f.head_dim);
    return t;
}

template <int kHeadDim>
TARPON_DEVICE void store_recent(half_t *to, const float (&x)[HeadVector<kHeadDim>::kElems]) {
    float finite[HeadVector<kHeadDim>::kElems];
    TARPON_UNROLL
    for (int i = 0; i < HeadVector<kHeadDim>::kElems; ++i)
        finite[i] = to_float(saturate_half(x[i]));
    store_run<kHeadDim>(to, true, finite);
}

// [warp] A token's value of one head; `row` [head_dim] is scratch.
template <int kHeadDim, Scheme kScheme>
TARPON_DEVICE void append_value(const AppendParams &p, const TokenPlace &t, int64_t token, int head,
                                float *row) {
    const PlanParams &plan = p.plan;
    float x[HeadVector<kHeadDim>::kElems] = {};
    load_vector<kHeadDim>(p.v, plan.element, (token * plan.format.kv_heads + head) * kHeadDim,
                          p.vectors, x);
    rotate_vector<kHeadDim>(plan, x);
    share_vector<kHeadDim>(row, x);
    store_value_codes<kHeadDim, kScheme>(plan, row, t.place,
                                         t.page + int64_t{head} * plan.layout.bytes);
    if (t.recent) store_recent<kHeadDim>(t.recent + (int64_t{2} * head + 1) * kHeadDim, x);
    ptx::sync_warp();
}

template <int kHeadDim>
struct AppendStorage {
    float rows[kKernelWarps][kHeadDim];
    TokenPlace places[kAppendTokens];
    CosSin angles[kAppendTokens][kHeadDim / 2];
    // Of one head's keys: words of the lower plane, then of the upper one (width 3).
    uint32_t key_words[kHeadDim / 2][kAppendTokens];
    half_t key_scales[kAppendTokens];
};

// Where a token's row of AppendStorage.angles has a pair: lanes go through several each, and at once
// read neighbours.
template <int kHeadDim>
TARPON_DEVICE int angle_slot(int pairs, int pair) {
    constexpr int kElems = HeadVector<kHeadDim>::kElems;
    return pair % kElems * ((pairs + kElems - 1) / kElems) + pair / kElems;
}

// [block] The places and angles of the `count` tokens from `first` on.
template <int kHeadDim>
TARPON_DEVICE void find_tile(const AppendParams &p, int64_t first, int count,
                             AppendStorage<kHeadDim> &storage) {
    for (int i = ptx::warp_id(); i < count; i += kKernelWarps) {
        const TokenPlace t = find_place(p, first + i);
        if (ptx::lane_id() != 0) continue;
        TokenPlace *to = &storage.places[i];
        ptx::st_shared(&to->position, t.position);
        ptx::st_shared(&to->place, t.place);
        ptx::st_shared(&to->page, t.page);
        ptx::st_shared(&to->recent, t.recent);
    }
    ptx::sync_threads();
    const RopeTables &rope = p.plan.rope;
    for (int i = ptx::thread_idx(); i < count * rope.pairs; i += kKernelThreads) {
        const int token = i / rope.pairs, pair = i % rope.pairs;
        ptx::st_shared(&storage.angles[token][angle_slot<kHeadDim>(rope.pairs, pair)],
                       load_angle(rope, ptx::ld_shared(&storage.places[token].position), pair));
    }
    ptx::sync_threads();
}

TARPON_DEVICE TokenPlace load_place(const TokenPlace *from) {
    return {ptx::ld_shared(&from->position), ptx::ld_shared(&from->place),
            ptx::ld_shared(&from->page), ptx::ld_shared(&from->recent)};
}

// [warp] The key of the tile's token number `in_tile` of one head, as words in shared memory.
template <int kHeadDim>
TARPON_DEVICE void encode_key(const AppendParams &p, const TokenPlace &t, int64_t token,
                              int in_tile, int head, AppendStorage<kHeadDim> &storage) {
    using Head = HeadVector<kHeadDim>;
    const PlanParams &plan = p.plan;
    float *row = storage.rows[ptx::warp_id()];
    float x[Head::kElems] = {};
    load_vector<kHeadDim>(p.k, plan.element, (token * plan.format.kv_heads + head) * kHeadDim,
                          p.vectors, x);
    norm_vector<kHeadDim>(plan.k_norm, plan.norm_eps, row, x);
    if (plan.mean && Head::owns()) {
        const float *mean = plan.mean + int64_t{head} * kHeadDim;
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i)
            x[i] = add_rn(x[i], -ptx::ld_global_nc(&mean[Head::channel(i)]));
    }
    turn_vector<kHeadDim>(plan.rope, row, x, [&](int pair) {
        const int slot = angle_slot<kHeadDim>(plan.rope.pairs, pair);
        return ptx::ld_shared(&storage.angles[in_tile][slot]);
    });
    rotate_vector<kHeadDim>(plan, x);
    share_vector<kHeadDim>(row, x);
    if (t.recent) store_recent<kHeadDim>(t.recent + int64_t{2} * head * kHeadDim, x);

    const int bits = plan.format.k_bits;
    uint32_t codes[Head::kElems];
    const StoredRange range = encode_vector<kHeadDim, Scheme::kTarpon>(
        row, bits, [](int position) { return position; }, codes);
    const auto store = [&](int width, int shift, int first_word) {
        pack_plane<kHeadDim>(codes, width, shift, [&](int w, uint32_t word) {
            ptx::st_shared(&storage.key_words[first_word + w][in_tile], word);
        });
    };
    store(bits == 3 ? 2 : bits, 0, 0);
    if (bits == 3) store(1, 2, k_plane_words(kHeadDim, 2));
    if (ptx::lane_id() == 0) ptx::st_shared(&storage.key_scales[in_tile], range.scale);
    ptx::sync_warp();
}

// [block] The tile's keys of one head to their pages: neighbouring threads have neighbouring tokens,
// whose words are neighbours if they are in one tile of a page.
template <int kHeadDim>
TARPON_DEVICE void store_keys(const PlanParams &plan, int count, int head,
                              const AppendStorage<kHeadDim> &storage) {
    const Format &f = plan.format;
    const int width = f.k_bits == 3 ? 2 : f.k_bits;
    const int words = k_plane_words(kHeadDim, f.k_bits), lower = k_plane_words(kHeadDim, width);
    for (int i = ptx::thread_idx(); i < words * kAppendTokens; i += kKernelThreads) {
        const int token = i % kAppendTokens, word = i / kAppendTokens;
        if (token >= count) continue;
        const TokenPlace t = load_place(&storage.places[token]);
        if (!t.page) continue;
        uint8_t *block = t.page + int64_t{head} * plan.layout.bytes;
        auto *plane = reinterpret_cast<uint32_t *>(block + plan.layout.k_codes);
        if (word >= lower) plane += f.page_tokens * lower;
        const int at = word < lower ? k_word_index(kHeadDim, width, t.place, word)
                                    : k_word_index(kHeadDim, 1, t.place, word - lower);
        ptx::st_global(&plane[at], ptx::ld_shared(&storage.key_words[word][token]));
        if (word == 0 && has_scales(f.k_bits)) {
            ptx::st_global(reinterpret_cast<half_t *>(block + plan.layout.k_scales) + t.place,
                           ptx::ld_shared(&storage.key_scales[token]));
        }
    }
}

template <int kHeadDim>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, kHeadDim == 64    ? 6
                                                        : kHeadDim == 128 ? 5
                                                                          : 4)
    sm80_kv_append_kernel(AppendParams p) {
    auto &storage = shared_storage<AppendStorage<kHeadDim>>();
    const int heads = p.plan.format.kv_heads, head_runs = (heads + p.tile.heads - 1) / p.tile.heads;
    const int64_t tiles = (p.tokens + p.tile.tokens - 1) / p.tile.tokens;
    for (int64_t task = ptx::block_idx(); task < tiles * head_runs; task += ptx::grid_dim()) {
        const int64_t first = task / head_runs * p.tile.tokens;
        const int count = int(p.tokens - first < p.tile.tokens ? p.tokens - first : p.tile.tokens);
        const int first_head = int(task % head_runs) * p.tile.heads;
        const int end = first_head + p.tile.heads < heads ? first_head + p.tile.heads : heads;
        find_tile(p, first, count, storage);
        for (int head = first_head; head < end; ++head) {
            for (int unit = ptx::warp_id(); unit < 2 * count; unit += kKernelWarps) {
                const int in_tile = unit % count;
                const TokenPlace t = load_place(&storage.places[in_tile]);
                if (!t.page) continue;
                if (unit < count) {
                    encode_key(p, t, first + in_tile, in_tile, head, storage);
                } else {
                    append_value<kHeadDim, Scheme::kTarpon>(p, t, first + in_tile, head,
                                                            storage.rows[ptx::warp_id()]);
                }
            }
            ptx::sync_threads();
            store_keys(p.plan, count, head, storage);
            ptx::sync_threads();
        }
    }
}

}  // namespace tarpon::kv_cache
