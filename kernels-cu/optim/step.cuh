// The update: one pass over parameters, gradients and states, a warp to a block of 256 elements, so
// that the absmax of a block is a reduction within a warp and nothing waits for other warps.
#pragma once

#include "optim/measure.cuh"

namespace tarpon::optim {

struct StepStorage {
    TensorWork work;
    CodeMap maps[kStateMaps];
};

// One warp's block: eight elements a lane.
struct LaneBlock {
    float param[kLaneElems], grad[kLaneElems];
    float state[kMaxStates][kLaneElems];
};

template <class R>
inline constexpr bool kMayBeFp8 = std::is_same_v<R, AdamRule>;

template <class R>
TARPON_DEVICE const CodeMap &map_of(const StepStorage &storage, int slot) {
    return storage.maps[R::kSigned >> slot & 1 ? 0 : 1];
}

template <class R>
TARPON_DEVICE void load_state(const TensorEntry &t, int slot, int64_t block, LaneSpan span,
                              const StepStorage &storage, float (&v)[kLaneElems]) {
    if (t.format == StateFormat::kF32) return load_lane(t.state[slot], Dtype::kF32, span, v);
    uint32_t code[kLaneElems];
    load_codes(static_cast<const uint8_t *>(t.state[slot]), span, code);
    if (t.format == StateFormat::kDynamic8) {
        const float absmax = ptx::ld_global(t.absmax[slot] + block);
        const CodeMap &map = map_of<R>(storage, slot);
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i)
            v[i] = i < span.n ? decode(map, code[i]) * absmax : 0.0f;
    } else if constexpr (kMayBeFp8<R>) {
        Fp8Group group{0, 1};
        if (span.n > 0) {
            const auto *groups = reinterpret_cast<const Fp8Group *>(t.absmax[slot]);
            group = load_struct(groups + span.at / kFp8GroupElems);
        }
        // Memory of zeros is a legal initial state.
        const float power = group.power > 0 ? 1.0f / group.power : 1.0f;
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i) {
            const float value = decode(storage.maps[2], code[i]);
            v[i] = i < span.n ? lanes::signed_power(value, power) * group.absmax : 0.0f;
        }
    }
}

TARPON_DEVICE uint32_t largest_key(const float (&v)[kLaneElems]) {
    uint32_t largest = 0;
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        const uint32_t bits = magnitude_bits(v[i]);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// [warp] Elements past the end of the tensor are zeros.
template <class R>
TARPON_DEVICE void store_state(const TensorEntry &t, int slot, int64_t block, LaneSpan span,
                               const StepStorage &storage, const Rounding &rounding,
                               const float (&v)[kLaneElems]) {
    if (t.format == StateFormat::kF32) return store_lane(t.state[slot], Dtype::kF32, span, v);
    const RandomKey key = rounding.stochastic_states
                              ? random_key(rounding.seed, rounding.step, t.index, 1 + slot)
                              : RandomKey{0, 0};
    uint32_t code[kLaneElems];
    if (t.format == StateFormat::kDynamic8) {
        const float absmax = lanes::as_float(largest_among(largest_key(v), layout::kWarpLanes));
        const float inverse = reciprocal_absmax(absmax);
        const CodeMap &map = map_of<R>(storage, slot);
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i) {
            const float x = v[i] * inverse;
            code[i] = rounding.stochastic_states
                          ? encode_stochastic(map, x, random_bits(key, span.at + i))
                          : uint32_t(detail::dynamic_code(map, lanes::as_bits(x)));
        }
        if (ptx::lane_id() == 0) ptx::st_global(t.absmax[slot] + block, absmax);
    } else if constexpr (kMayBeFp8<R>) {
        uint32_t smallest = 0x7f7fffffu;
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i) {
            const uint32_t bits = magnitude_bits(v[i]);
            // Zero wraps to the largest number and never wins.
            smallest = bits - 1 < smallest - 1 ? bits : smallest;
        }
        const Fp8Group group =
            fp8_group(lanes::as_float(largest_among(largest_key(v), kGroupLanes)),
                      lanes::as_float(smallest_among(smallest, kGroupLanes)));
        const float inverse = reciprocal_absmax(group.absmax);
        TARPON_UNROLL
        for (int i = 0; i < kLaneElems; ++i) {
            const float x = lanes::signed_power(v[i] * inverse, group.power);
            code[i] = rounding.stochastic_states
                          ? encode_stochastic(storage.maps[2], x, random_bits(key, span.at + i))
                          : detail::e4m3_code(x * 448.0f);
        }
        if (ptx::lane_id() % kGroupLanes == 0 && span.n > 0) {
            store_struct(reinterpret_cast<Fp8Group *>(t.absmax[slot]) + span.at / kFp8GroupElems,
                         group);
        }
    }
    store_codes(static_cast<uint8_t *>(t.state[slot]), span, code);
}

TARPON_DEVICE void store_param(const TensorEntry &t, void *tensor, Dtype dtype, LaneSpan span,
                               const Rounding &rounding, const float (&v)[kLaneElems]) {
    if (dtype != Dtype::kBF16 || !rounding.stochastic_params) {
        return store_lane(tensor, dtype, span, v);
    }
    const RandomKey key = random_key(rounding.seed, rounding.step, t.index, 0);
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        if (i >= span.n) continue;
        ptx::st_global(static_cast<bf16_t *>(tensor) + span.at + i,
                       bf16_stochastic(v[i], random_bits(key, span.at + i)));
    }
}

// [warp] Loads a block; false, in all lanes, if a gradient is not finite.
template <class R>
TARPON_DEVICE bool load_block(const TensorEntry &t, const Coefficients &c, int64_t block,
                              LaneSpan span, const StepStorage &storage, LaneBlock &b) {
    load_lane(t.grad, t.grad_dtype, span, b.grad);
    bool finite = true;
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        b.grad[i] *= c.grad_multiplier;
        finite = finite && lanes::abs(b.grad[i]) < kGradientLimit;
    }
    if (ptx::ballot(finite) != ptx::kAllLanes) return false;
    load_lane(t.param, t.param_dtype, span, b.param);
    TARPON_UNROLL
    for (int slot = 0; slot < kMaxStates; ++slot) {
        if (R::kReads >> slot & 1) load_state<R>(t, slot, block, span, storage, b.state[slot]);
    }
    return true;
}

// The deltas of the lane's elements; b.state holds their new states afterwards.
template <class R>
TARPON_DEVICE void lane_deltas(const TensorEntry &t, const Coefficients &c, LaneSpan span,
                               LaneBlock &b, float (&delta)[kLaneElems]) {
    // Norms go on periodically past the last column, so that one division serves the lane.
    const float *norms = t.inverse_norms ? t.inverse_norms + span.at % t.columns : nullptr;
    TARPON_UNROLL
    for (int i = 0; i < kLaneElems; ++i) {
        float s[kMaxStates];
        TARPON_UNROLL
        for (int slot = 0; slot < kMaxStates; ++slot)
            if (R::kReads >> slot & 1) s[slot] = b.state[slot][i];
        const float norm = norms && i < span.n ? ptx::ld_global(norms + i) : 1.0f;
        delta[i] = R::delta(b.param[i], b.grad[i], s, c, norm);
        TARPON_UNROLL
        for (int slot = 0; slot < kMaxStates; ++slot)
            if (R::kWrites >> slot & 1) b.state[slot][i] = i < span.n ? s[slot] : 0.0f;
    }
}

// [block]
TARPON_DEVICE void load_maps(const CodeMap *maps, StepStorage &storage) {
    for (int i = 0; i < kStateMaps; ++i)
        copy_to_shared(maps + i, &storage.maps[i]);
    ptx::sync_threads();
}

// [block] Updates a chunk of storage.work's tensor; returns how many blocks this warp skipped.
template <class R>
TARPON_DEVICE int32_t update_chunk(int64_t first_block, const Rounding &rounding,
                                   const StepStorage &storage) {
    const TensorEntry &t = storage.work.tensor;
    const Coefficients &c = storage.work.coefficients;
    const int64_t blocks = block_count(t.elems);
    int32_t skipped = 0;
    for (int64_t block = first_block + ptx::warp_id();
         block < first_block + kChunkBlocks && block < blocks; block += kWarps) {
        const LaneSpan span(t.elems, block);
        LaneBlock b;
        if (!load_block<R>(t, c, block, span, storage, b)) {
            ++skipped;
            continue;
        }
        float delta[kLaneElems];
        lane_deltas<R>(t, c, span, b, delta);
        TARPON_UNROLL
        for (int k = 0; k < kLaneElems; ++k)
            b.param[k] = b.param[k] - delta[k];
        if constexpr (R::kMoves) {
            store_param(t, t.param, t.param_dtype, span, rounding, b.param);
            if (t.copy) store_param(t, t.copy, t.copy_dtype, span, rounding, b.param);
        }
        TARPON_UNROLL
        for (int slot = 0; slot < kMaxStates; ++slot) {
            if (R::kWrites >> slot & 1) {
                store_state<R>(t, slot, block, span, storage, rounding, b.state[slot]);
            }
        }
    }
    return skipped;
}

TARPON_DEVICE int64_t first_block_of(Chunk chunk) {
    return int64_t(chunk.index) * kChunkBlocks;
}

TARPON_DEVICE Rounding rounding_of(const StepParams &p) {
    return {p.scalars.seed, ptx::ld_global(&p.memory.state->step), p.scalars.stochastic_params,
            p.scalars.stochastic_states};
}

// [warp]
TARPON_DEVICE void count_skipped(const PlanMemory &m, int32_t skipped) {
    if (skipped > 0 && ptx::lane_id() == 0) ptx::atomic_add(&m.state->skipped_blocks, skipped);
}

// Thread blocks to a multiprocessor: two leave a thread 128 registers, which three states exceed.
template <class R>
inline constexpr int kMinBlocks = R::kReads == 0b111 ? 1 : 2;

// Every chunk; the tensors' updates are all R's.
template <class R>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, kMinBlocks<R>)
    sm80_optim_step_kernel(StepParams p) {
    auto &storage = shared_storage<StepStorage>();
    const PlanMemory &m = p.memory;
    if (ptx::ld_global(&m.state->skip) != 0) return;
    load_maps(m.maps, storage);
    const Rounding rounding = rounding_of(p);
    int32_t skipped = 0;
    for (int64_t i = ptx::block_idx(); i < m.chunk_count; i += ptx::grid_dim()) {
        const Chunk chunk = ptx::ld_global(m.chunks + i);
        load_work(m, chunk.tensor, storage.work);
        skipped += update_chunk<R>(first_block_of(chunk), rounding, storage);
    }
    count_skipped(m, skipped);
}

}  // namespace tarpon::optim
