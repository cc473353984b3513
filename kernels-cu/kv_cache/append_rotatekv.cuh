// Append in mode rotatekv: a block takes all heads of a token, since rotation joins up to four of
// them and the order that follows all. Launched by append.cu. The codes are those of ref.h, bit for
// bit.
#pragma once

#include "kv_cache/append.cuh"
#include "kv_cache/rotation.cuh"

namespace tarpon::kv_cache {

template <int kHeadDim>
struct AppendRotatekvStorage {
    float rows[kKernelWarps][kHeadDim];
    alignas(16) float keys[4];  // and on: [kv_heads * head_dim], as the launch gives
};

// [warp] Rotates the keys [kHeads * head_dim] at `keys`.
template <int kHeadDim, int kHeads>
TARPON_DEVICE void rotate_shared(const PlanParams &plan, float *keys) {
    RotationVector<kHeadDim, kHeads> v;
    TARPON_UNROLL
    for (int i = 0; i < v.kRows; ++i)
        v.x[i] = ptx::ld_shared(&keys[v.channel(i)]);
    rotate_heads(plan, v);
    ptx::sync_warp();
    TARPON_UNROLL
    for (int i = 0; v.owns() && i < v.kRows; ++i)
        ptx::st_shared(&keys[v.channel(i)], v.x[i]);
}

// [warp] The key in `row`, a head's share of the reordered channels, to its place.
template <int kHeadDim>
TARPON_DEVICE void store_key(const PlanParams &plan, const float *row, const TokenPlace &t,
                             int head) {
    const Format &f = plan.format;
    uint8_t *block = t.page + int64_t{head} * plan.layout.bytes;
    uint32_t codes[HeadVector<kHeadDim>::kElems];
    const StoredRange range = encode_vector<kHeadDim, Scheme::kRotatekv>(
        row, f.k_bits, [](int position) { return position; }, codes);
    const auto store = [&](int width, int shift, uint8_t *plane) {
        auto *words = reinterpret_cast<uint32_t *>(plane);
        pack_plane<kHeadDim>(codes, width, shift, [&](int w, uint32_t word) {
            ptx::st_global(&words[k_word_index(kHeadDim, width, t.place, w)], word);
        });
    };
    uint8_t *plane = block + plan.layout.k_codes;
    store(f.k_bits == 3 ? 2 : f.k_bits, 0, plane);
    if (f.k_bits == 3) store(1, 2, plane + f.page_tokens * kHeadDim / 4);
    if (has_scales(f.k_bits))
        store_range<kHeadDim, Scheme::kRotatekv>(f, block + plan.layout.k_scales,
                                                 block + plan.layout.k_zeros, t.place, range);
}

template <int kHeadDim>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, 4)
    sm80_kv_append_rotatekv_kernel(AppendParams p) {
    using Head = HeadVector<kHeadDim>;
    auto &storage = shared_storage<AppendRotatekvStorage<kHeadDim>>();
    float *row = storage.rows[ptx::warp_id()], *keys = storage.keys;
    const PlanParams &plan = p.plan;
    const int heads = plan.format.kv_heads;
    for (int64_t token = ptx::block_idx(); token < p.tokens; token += ptx::grid_dim()) {
        const TokenPlace t = find_place(p, token);
        if (!t.page) continue;
        for (int head = ptx::warp_id(); head < heads; head += kKernelWarps) {
            float x[Head::kElems] = {};
            load_vector<kHeadDim>(p.k, plan.element, (token * heads + head) * kHeadDim, p.vectors,
                                  x);
            norm_vector<kHeadDim>(plan.k_norm, plan.norm_eps, row, x);
            share_vector<kHeadDim>(keys + head * kHeadDim, x);
            if (t.recent) {
                turn_vector<kHeadDim>(plan.rope, t.position, row, x);
                store_recent<kHeadDim>(t.recent + int64_t{2} * head * kHeadDim, x);
            }
            append_value<kHeadDim, Scheme::kRotatekv>(p, t, token, head, row);
        }
        ptx::sync_threads();
        with_rotation_heads(plan.rotation_heads, [&](auto together) {
            constexpr int kHeads = decltype(together)::value;
            for (int head = kHeads * ptx::warp_id(); head < heads; head += kHeads * kKernelWarps)
                rotate_shared<kHeadDim, kHeads>(plan, keys + head * kHeadDim);
        });
        ptx::sync_threads();
        for (int head = ptx::warp_id(); head < heads; head += kKernelWarps) {
            const int32_t *order = plan.order + head * kHeadDim;
            float x[Head::kElems] = {};
            TARPON_UNROLL
            for (int i = 0; Head::owns() && i < Head::kElems; ++i)
                x[i] = ptx::ld_shared(&keys[ptx::ld_global_nc(&order[Head::channel(i)])]);
            share_vector<kHeadDim>(row, x);
            store_key<kHeadDim>(plan, row, t, head);
            ptx::sync_warp();
        }
        ptx::sync_threads();
    }
}

}  // namespace tarpon::kv_cache
