// Append: a warp takes a token's key and value of one head from the model's layout to the page and
// the recent store: QK-norm, mean, RoPE, rotation, scale, codes, packing. Launched by append.cu.
// The codes are those of ref.h, bit for bit.
#pragma once

#include "common/launch.cuh"
#include "kv_cache/vector.cuh"

namespace tarpon::kv_cache {

template <int kHeadDim>
struct AppendStorage {
    float rows[kKernelWarps][kHeadDim];
};

// [warp] Packs `width` bits from bit `shift` up of the codes that follow one another over the
// lanes, lowest first, into words; word w goes to *word_at(w).
template <int kHeadDim, class WordAt>
TARPON_DEVICE void pack_plane(const uint32_t (&codes)[HeadVector<kHeadDim>::kElems], int width,
                              int shift, WordAt word_at) {
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
        if (Head::owns() && lane % sharing == 0) ptx::st_global(word_at(lane / sharing), word);
    } else if (width == 16) {
        TARPON_UNROLL
        for (int i = 0; i < kElems; i += 2) {
            if (Head::owns())
                ptx::st_global(word_at((lane * kElems + i) / 2), codes[i] | codes[i + 1] << 16);
        }
    } else if constexpr (kElems == 8) {  // width 8
        TARPON_UNROLL
        for (int i = 0; i < kElems; i += 4) {
            ptx::st_global(word_at((lane * kElems + i) / 4),
                           codes[i] | codes[i + 1] << 8 | codes[i + 2] << 16 | codes[i + 3] << 24);
        }
    }
}

// The channel at position `at` of a row of V codes: a chunk's lane after the other (format.h).
TARPON_DEVICE int v_channel(int at) {
    return at / kChunkChannels * kChunkChannels + at % kChunkChannels / 4 + kChunkLanes * (at % 4);
}

// [warp] Codes and scale of the vector in `row` (share_vector). The lane's codes are those of
// channel_of(position) for its kElems positions.
template <int kHeadDim, class ChannelOf>
TARPON_DEVICE half_t encode_vector(const float *row, int bits, ChannelOf channel_of,
                                   uint32_t (&codes)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    half_t scale{0};
    float inverse = 0;
    if (bits < 16) {
        scale = grid_scale(shared_spread<kHeadDim>(row), kHeadDim, bits);
        inverse = grid_inverse(scale);
    }
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i) {
        const float x = Head::owns() ? ptx::ld_shared(&row[channel_of(Head::channel(i))]) : 0.0f;
        codes[i] = bits < 16 ? grid_code(x, inverse, bits) : saturate_half(x).bits;
    }
    return scale;
}

// [warp] The key in `row` to place `token` of a head's block.
template <int kHeadDim>
TARPON_DEVICE void store_key_codes(const PlanParams &plan, const float *row, int token,
                                   uint8_t *block) {
    const Format &f = plan.format;
    uint32_t codes[HeadVector<kHeadDim>::kElems];
    const half_t scale = encode_vector<kHeadDim>(
        row, f.k_bits, [](int position) { return position; }, codes);
    const auto store = [&](int width, int shift, uint8_t *plane) {
        auto *words = reinterpret_cast<uint32_t *>(plane);
        pack_plane<kHeadDim>(codes, width, shift, [&](int word) {
            return words + k_word_index(kHeadDim, width, token, word);
        });
    };
    uint8_t *plane = block + plan.layout.k_codes;
    store(f.k_bits == 3 ? 2 : f.k_bits, 0, plane);
    if (f.k_bits == 3) store(1, 2, plane + f.page_tokens * kHeadDim / 4);
    if (has_scales(f.k_bits) && ptx::lane_id() == 0)
        ptx::st_global(reinterpret_cast<half_t *>(block + plan.layout.k_scales) + token, scale);
}

// [warp] The same of a value.
template <int kHeadDim>
TARPON_DEVICE void store_value_codes(const PlanParams &plan, const float *row, int token,
                                     uint8_t *block) {
    const Format &f = plan.format;
    uint32_t codes[HeadVector<kHeadDim>::kElems];
    const half_t scale = encode_vector<kHeadDim>(
        row, f.v_bits,
        [&](int position) { return f.v_bits == 16 ? position : v_channel(position); }, codes);
    const auto store = [&](int width, int shift, uint8_t *plane) {
        auto *words = reinterpret_cast<uint32_t *>(plane) + token * (kHeadDim * width / 32);
        pack_plane<kHeadDim>(codes, width, shift, [&](int word) { return words + word; });
    };
    uint8_t *plane = block + plan.layout.v_codes;
    store(f.v_bits == 3 ? 2 : f.v_bits, 0, plane);
    if (f.v_bits == 3) store(1, 2, plane + f.page_tokens * kHeadDim / 4);
    if (has_scales(f.v_bits) && ptx::lane_id() == 0)
        ptx::st_global(reinterpret_cast<half_t *>(block + plan.layout.v_scales) + token, scale);
}

// The entry of the recent store that a token goes to: as a sink, or within the ring; null if
// neither.
TARPON_DEVICE half_t *recent_entry(const AppendParams &p, int position, int row) {
    const PlanParams &plan = p.plan;
    int place = position;
    if (position >= plan.sink_tokens) {
        if (position < ptx::ld_global_nc(&p.lengths[row]) - plan.ring_tokens) return nullptr;
        place = plan.sink_tokens + position % plan.ring_tokens;
    }
    const int64_t block = p.recent_index ? ptx::ld_global_nc(&p.recent_index[row]) : row;
    const int64_t entry_elems = int64_t{2} * plan.format.kv_heads * plan.format.head_dim;
    return p.recent + (block * (plan.sink_tokens + plan.ring_tokens) + place) * entry_elems;
}

template <int kHeadDim>
TARPON_DEVICE void store_recent(half_t *to, const float (&x)[HeadVector<kHeadDim>::kElems]) {
    float finite[HeadVector<kHeadDim>::kElems];
    TARPON_UNROLL
    for (int i = 0; i < HeadVector<kHeadDim>::kElems; ++i)
        finite[i] = to_float(saturate_half(x[i]));
    store_run<kHeadDim>(to, true, finite);
}

template <int kHeadDim>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, kHeadDim == 64 || kHeadDim == 128 ? 8 : 4)
    sm80_kv_append_kernel(AppendParams p) {
    using Head = HeadVector<kHeadDim>;
    auto &storage = shared_storage<AppendStorage<kHeadDim>>();
    float *row = storage.rows[ptx::warp_id()];
    const PlanParams &plan = p.plan;
    const int heads = plan.format.kv_heads;
    const int64_t page_stride = int64_t{heads} * plan.layout.bytes;
    const int64_t warps = int64_t(ptx::grid_dim()) * kKernelWarps;
    for (int64_t task = int64_t(ptx::block_idx()) * kKernelWarps + ptx::warp_id();
         task < p.tokens * heads; task += warps) {
        const int64_t token = task / heads;
        const int head = int(task - token * heads);
        const int64_t slot = ptx::ld_global_nc(&p.slots[token]);
        if (slot < 0) continue;
        const int position = ptx::ld_global_nc(&p.positions[token]);
        const int place = int(slot % plan.format.page_tokens);
        uint8_t *block = p.pages + slot / plan.format.page_tokens * page_stride +
                         int64_t{head} * plan.layout.bytes;
        half_t *recent = nullptr;
        if (plan.sink_tokens + plan.ring_tokens > 0) {
            recent = recent_entry(p, position, ptx::ld_global_nc(&p.rows[token]));
            if (recent) recent += int64_t{2} * head * kHeadDim;
        }

        float x[Head::kElems];
        load_vector<kHeadDim>(p.k, plan.element, task * kHeadDim, p.vectors, x);
        norm_vector<kHeadDim>(plan.k_norm, plan.norm_eps, row, x);
        if (plan.mean && Head::owns()) {
            const float *mean = plan.mean + int64_t{head} * kHeadDim;
            TARPON_UNROLL
            for (int i = 0; i < Head::kElems; ++i)
                x[i] = add_rn(x[i], -ptx::ld_global_nc(&mean[Head::channel(i)]));
        }
        turn_vector<kHeadDim>(plan.rope, position, row, x);
        rotate_vector<kHeadDim>(plan, x);
        share_vector<kHeadDim>(row, x);
        store_key_codes<kHeadDim>(plan, row, place, block);
        if (recent) store_recent<kHeadDim>(recent, x);
        ptx::sync_warp();

        load_vector<kHeadDim>(p.v, plan.element, task * kHeadDim, p.vectors, x);
        rotate_vector<kHeadDim>(plan, x);
        share_vector<kHeadDim>(row, x);
        store_value_codes<kHeadDim>(plan, row, place, block);
        if (recent) store_recent<kHeadDim>(recent + kHeadDim, x);
        ptx::sync_warp();
    }
}

}  // namespace tarpon::kv_cache
