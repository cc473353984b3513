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

// A lane's channels of a token, as codes [plane] and scales of `bits` say.
template <int kHeadDim, class CodeOf>
TARPON_DEVICE void decode_vector(const Format &f, const uint8_t *plane, const uint8_t *scales,
                                 int bits, int token, CodeOf code_of,
                                 float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
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
        } else {
            const half_t scale =
                ptx::ld_global_nc(reinterpret_cast<const half_t *>(scales) + token);
            x[i] = mul_rn(grid_level(code, bits), to_float(scale));
        }
    }
}

template <int kHeadDim>
struct DequantizeStorage {
    float rows[kKernelWarps][kHeadDim];
};

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
        const int64_t slot = ptx::ld_global_nc(&p.slots[token]);
        if (slot < 0) continue;
        const int position = ptx::ld_global_nc(&p.positions[token]);
        const int row = ptx::ld_global_nc(&p.rows[token]);
        const int place = int(slot % f.page_tokens);
        const uint8_t *block =
            p.pages + (slot / f.page_tokens * f.kv_heads + head) * int64_t{plan.layout.bytes};
        const half_t *recent = nullptr;
        const bool is_sink = position < plan.sink_tokens;
        if (p.recent &&
            (is_sink || position >= ptx::ld_global_nc(&p.lengths[row]) - plan.window_tokens)) {
            const int entry = is_sink ? position : plan.sink_tokens + position % plan.ring_tokens;
            const int64_t sequence = p.recent_index ? ptx::ld_global_nc(&p.recent_index[row]) : row;
            recent =
                p.recent +
                ((sequence * (plan.sink_tokens + plan.ring_tokens) + entry) * f.kv_heads + head) *
                    2 * kHeadDim;
        }

        float x[Head::kElems];
        if (recent) {
            load_run<kHeadDim>(recent, true, x);
        } else {
            decode_vector<kHeadDim>(f, block + plan.layout.k_codes, block + plan.layout.k_scales,
                                    f.k_bits, place, key_code, x);
        }
        rotate_vector<kHeadDim>(plan, x);
        if (plan.mean) {
            float mean[Head::kElems] = {};
            TARPON_UNROLL
            for (int i = 0; Head::owns() && i < Head::kElems; ++i)
                mean[i] =
                    ptx::ld_global_nc(&plan.mean[int64_t{head} * kHeadDim + Head::channel(i)]);
            turn_vector<kHeadDim>(plan.rope, position, scratch, mean);
            TARPON_UNROLL
            for (int i = 0; i < Head::kElems; ++i)
                x[i] = add_rn(x[i], mean[i]);
        }
        store_run<kHeadDim>(p.k + task * kHeadDim, false, x);

        if (recent) {
            load_run<kHeadDim>(recent + kHeadDim, true, x);
        } else {
            decode_vector<kHeadDim>(f, block + plan.layout.v_codes, block + plan.layout.v_scales,
                                    f.v_bits, place, value_code, x);
        }
        rotate_vector<kHeadDim>(plan, x);
        store_run<kHeadDim>(p.v + task * kHeadDim, false, x);
    }
}

}  // namespace tarpon::kv_cache
