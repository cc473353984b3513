// Reading tokens back in mode rotatekv: a warp takes the heads whose keys are rotated together, from
// wherever the order put their channels. For inspection, not for speed. Launched by append.cu.
#pragma once

#include "kv_cache/dequantize.cuh"
#include "kv_cache/key_codes.cuh"
#include "kv_cache/rotation.cuh"

namespace tarpon::kv_cache {

template <int kHeadDim>
struct DequantizeRotatekvStorage {
    float keys[kKernelWarps][4 * kHeadDim];  // of a rotation
    float rows[kKernelWarps][kHeadDim];
};

template <int kHeadDim, int kHeads>
TARPON_DEVICE void dequantize_rotation(const DequantizeParams &p, const StoredToken &t,
                                       int64_t token, int first_head, float *keys, float *row) {
    using Head = HeadVector<kHeadDim>;
    const PlanParams &plan = p.plan;
    RotationVector<kHeadDim, kHeads> v;
    if (!t.recent) {
        const KeyCodes codes(plan, t.page, t.place);
        TARPON_UNROLL
        for (int i = 0; i < v.kRows; ++i)
            v.x[i] =
                codes.value(ptx::ld_global_nc(&plan.places[first_head * kHeadDim + v.channel(i)]));
        rotate_heads(plan, v);
        TARPON_UNROLL
        for (int i = 0; v.owns() && i < v.kRows; ++i)
            ptx::st_shared(&keys[v.channel(i)], v.x[i]);
        ptx::sync_warp();
    }
    for (int head = first_head; head < first_head + kHeads; ++head) {
        float x[Head::kElems] = {};
        if (t.recent) {
            load_run<kHeadDim>(t.recent + 2 * head * kHeadDim, true, x);
        } else {
            TARPON_UNROLL
            for (int i = 0; Head::owns() && i < Head::kElems; ++i)
                x[i] = ptx::ld_shared(&keys[(head - first_head) * kHeadDim + Head::channel(i)]);
            turn_vector<kHeadDim>(plan.rope, t.position, row, x);
        }
        store_run<kHeadDim>(p.k + (token * plan.format.kv_heads + head) * kHeadDim, false, x);
        dequantize_value<kHeadDim>(p, t, token, head);
    }
    ptx::sync_warp();
}

template <int kHeadDim>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, 2)
    sm80_kv_dequantize_rotatekv_kernel(DequantizeParams p) {
    auto &storage = shared_storage<DequantizeRotatekvStorage<kHeadDim>>();
    float *keys = storage.keys[ptx::warp_id()], *row = storage.rows[ptx::warp_id()];
    const int rotations = p.plan.format.kv_heads / p.plan.rotation_heads;
    const int64_t warps = int64_t(ptx::grid_dim()) * kKernelWarps;
    for (int64_t task = int64_t(ptx::block_idx()) * kKernelWarps + ptx::warp_id();
         task < p.tokens * rotations; task += warps) {
        const int64_t token = task / rotations;
        const StoredToken t = find_stored(p, token);
        if (!t.page) continue;
        with_rotation_heads(p.plan.rotation_heads, [&](auto together) {
            constexpr int kHeads = decltype(together)::value;
            const int first_head = int(task - token * rotations) * kHeads;
            dequantize_rotation<kHeadDim, kHeads>(p, t, token, first_head, keys, row);
        });
    }
}

}  // namespace tarpon::kv_cache
