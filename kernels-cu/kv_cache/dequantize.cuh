// Reading tokens back in plain coordinates, code by code: for inspection, not for speed. Launched
// by append.cu. The same bits as kv_dequantize_token() of native/src/kv_host.cc.
#pragma once

#include "common/launch.cuh"
#include "kv_cache/vector.cuh"

namespace tarpon::kv_cache {

// A channel's code in a plane of K codes of `width` bits.
TARPON_DEVICE uint32_t key_code(const uint8_t *plane, int head_dim, int width, int token,
                                int channel) {
    const int per_word = 32 / width;
    const uint32_t word =
        ptx::ld_global_nc(reinterpret_cast<const uint32_t *>(plane) +
                          k_word_index(head_dim, width, token, channel / per_word));
    return word >> (channel % per_word * width) & ((1u << width) - 1);
}

// The same in a plane of V codes.
TARPON_DEVICE uint32_t value_code(const uint8_t *plane, int head_dim, int width, int token,
                                  int channel) {
    const uint8_t *row = plane + token * (head_dim * width / 8);
    if (width == 16) return ptx::ld_global_nc(reinterpret_cast<const uint16_t *>(row) + channel);
    const VPlace at = v_place(width, channel);
    return uint32_t(ptx::ld_global_nc(row + at.byte)) >> at.bit & ((1u << width) - 1);
}

// A lane's channels of a token, as codes [plane], scales and, in mode rotatekv, zero points of
// `bits` say.
template <int kHeadDim, class CodeOf>
TARPON_DEVICE void decode_vector(const Format &f, const uint8_t *plane, const uint8_t *scales,
                                 const uint8_t *zeros, int bits, int token, CodeOf code_of,
                                 float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    const auto half_at = [](const uint8_t *halves, int at) {
        return to_float(ptx::ld_global_nc(reinterpret_cast<const half_t *>(halves) + at));
    };
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i) {
        const int channel = Head::channel(i);
        x[i] = 0;
        if (!Head::owns()) continue;
        uint32_t code = code_of(plane, kHeadDim, bits == 3 ? 2 : bits, token, channel);
        if (bits == 3)
            code |= code_of(plane + f.page_tokens * kHeadDim / 4, kHeadDim, 1, token, channel) << 2;
        if (bits == 16) {
            x[i] = to_float(half_t{uint16_t(code)});
            continue;
        }
        const int at = scale_index(f, channel / group_channels(f), token);
        const float scale = half_at(scales, at);
        x[i] = f.scheme == Scheme::kTarpon ? mul_rn(grid_level(code, bits), scale)
                                           : asymmetric_value(code, {scale, half_at(zeros, at)});
    }
}

template <int kHeadDim>
struct DequantizeStorage {
    float rows[kKernelWarps][kHeadDim];
};

// Where a token is read from.
struct StoredToken {
    int position;
    int place;             // in its page
    const uint8_t *page;   // null: nowhere
    const half_t *recent;  // its entry of the recent store, or null
};

// [warp]
TARPON_DEVICE StoredToken find_stored(const DequantizeParams &p, int64_t token) {
    const PlanParams &plan = p.plan;
    const Format &f = plan.format;
    StoredToken t{};
    const int64_t slot = ptx::ld_global_nc(&p.slots[token]);
    if (slot < 0) return t;
    t.position = ptx::ld_global_nc(&p.positions[token]);
    t.place = int(slot % f.page_tokens);
    t.page = p.pages + slot / f.page_tokens * (int64_t{f.kv_heads} * plan.layout.bytes);
    if (!p.recent) return t;
    const int row = ptx::ld_global_nc(&p.rows[token]);
    const int64_t entry = recent_entry(p, row, t.position, plan.window_tokens);
    if (entry >= 0) t.recent = p.recent + entry * (int64_t{2} * f.kv_heads * f.head_dim);
    return t;
}

// [warp] A token's value of one head.
template <int kHeadDim>
TARPON_DEVICE void dequantize_value(const DequantizeParams &p, const StoredToken &t, int64_t token,
                                    int head) {
    const PlanParams &plan = p.plan;
    const Format &f = plan.format;
    float x[HeadVector<kHeadDim>::kElems];
    if (t.recent) {
        load_run<kHeadDim>(t.recent + (2 * head + 1) * kHeadDim, true, x);
    } else {
        const uint8_t *block = t.page + int64_t{head} * plan.layout.bytes;
        decode_vector<kHeadDim>(f, block + plan.layout.v_codes, block + plan.layout.v_scales,
                                block + plan.layout.v_zeros, f.v_bits, t.place, value_code, x);
    }
    rotate_vector<kHeadDim>(plan, x);
    store_run<kHeadDim>(p.v + (token * f.kv_heads + head) * kHeadDim, false, x);
}

template <int kHeadDim>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, 4)
    sm80_kv_dequantize_kernel(DequantizeParams p) {
    using Head = HeadVector<kHeadDim>;
    auto &storage = shared_storage<DequantizeStorage<kHeadDim>>();
    float *scratch = storage.rows[ptx::warp_id()];
    const PlanParams &plan = p.plan;
    const Format &f = plan.format;
    const int64_t warps = int64_t(ptx::grid_dim()) * kKernelWarps;
    for (int64_t task = int64_t(ptx::block_idx()) * kKernelWarps + ptx::warp_id();
         task < p.tokens * f.kv_heads; task += warps) {
        const int64_t token = task / f.kv_heads;
        const int head = int(task - token * f.kv_heads);
        const StoredToken t = find_stored(p, token);
        if (!t.page) continue;
        float x[Head::kElems];
        if (t.recent) {
            load_run<kHeadDim>(t.recent + 2 * head * kHeadDim, true, x);
        } else {
            const uint8_t *block = t.page + int64_t{head} * plan.layout.bytes;
            decode_vector<kHeadDim>(f, block + plan.layout.k_codes, block + plan.layout.k_scales,
                                    nullptr, f.k_bits, t.place, key_code, x);
        }
        rotate_vector<kHeadDim>(plan, x);
        if (plan.mean) {
            float mean[Head::kElems] = {};
            TARPON_UNROLL
            for (int i = 0; Head::owns() && i < Head::kElems; ++i)
                mean[i] =
                    ptx::ld_global_nc(&plan.mean[int64_t{head} * kHeadDim + Head::channel(i)]);
            turn_vector<kHeadDim>(plan.rope, t.position, scratch, mean);
            TARPON_UNROLL
            for (int i = 0; i < Head::kElems; ++i)
                x[i] = add_rn(x[i], mean[i]);
        }
        store_run<kHeadDim>(p.k + task * kHeadDim, false, x);
        dequantize_value<kHeadDim>(p, t, token, head);
    }
}

}  // namespace tarpon::kv_cache
