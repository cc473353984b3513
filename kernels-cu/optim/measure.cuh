// The kernel that runs before an update: sums of squares, and what follows from them for all tensors
// (clipping, Lars' trust ratios, the skipping of a step, the coefficients). Each block of threads
// leaves its chunks' sums in memory, and the last one to finish adds them up in a fixed order, so
// that results do not depend on the schedule and the host has nothing to wait for.
#pragma once

#include "common/launch.cuh"
#include "optim/elements.cuh"
#include "optim/kernels.h"
#include "optim/rules.h"

namespace tarpon::optim {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / layout::kWarpLanes;

// A tensor under work, in shared memory: in registers it would take 50 of them.
struct TensorWork {
    TensorEntry tensor;
    Coefficients coefficients;
};

// [block] Copies words of device memory to shared memory.
template <class T>
TARPON_DEVICE void copy_to_shared(const T *source, T *target) {
    const auto *from = reinterpret_cast<const uint32_t *>(source);
    auto *to = reinterpret_cast<uint32_t *>(target);
    for (int i = ptx::thread_idx(); i < int(sizeof(T) / 4); i += kThreads)
        ptx::st_shared(to + i, ptx::ld_global(from + i));
}

// [block] Waits until the tensor before it is done with.
TARPON_DEVICE void load_work(const PlanMemory &m, int tensor, TensorWork &work) {
    ptx::sync_threads();
    copy_to_shared(m.tensors + tensor, &work.tensor);
    copy_to_shared(m.coefficients + tensor, &work.coefficients);
    ptx::sync_threads();
}

struct MeasureStorage {
    TensorWork work;
    double warp_sums[3][kWarps];
    int32_t last;
};

// [block] Adds up a value of every warp's lanes; thread 0 has the result.
TARPON_DEVICE double block_sum(double value, double *warp_sums) {
    value = warp_sum(value);
    if (ptx::lane_id() == 0) ptx::st_shared(warp_sums + ptx::warp_id(), value);
    ptx::sync_threads();
    double sum = 0;
    if (ptx::thread_idx() == 0) {
        for (int warp = 0; warp < kWarps; ++warp)
            sum += ptx::ld_shared(warp_sums + warp);
    }
    ptx::sync_threads();
    return sum;
}

// [block] Whether this block of threads is the last of the grid to come here; then it sees what all
// others wrote.
TARPON_DEVICE bool is_last_block(StepState *state, int32_t *shared_flag) {
    ptx::sync_threads();
    if (ptx::thread_idx() == 0) {
        ptx::fence_acq_rel_gpu();
        const int32_t before = ptx::atomic_add(&state->ticket, 1);
        ptx::st_shared(shared_flag, int32_t(before == ptx::grid_dim() - 1));
        ptx::fence_acq_rel_gpu();
    }
    ptx::sync_threads();
    return ptx::ld_shared(shared_flag) != 0;
}

// [warp] A tensor's sum of a member of its chunks' sums, in all lanes.
template <double ChunkSums::*kMember>
TARPON_DEVICE double tensor_sum(const PlanMemory &m, int64_t tensor) {
    const int64_t end = ptx::ld_global(m.first_chunk + tensor + 1);
    double sum = 0;
    for (int64_t i = ptx::ld_global(m.first_chunk + tensor) + ptx::lane_id(); i < end;
         i += layout::kWarpLanes) {
        sum += ptx::ld_global(&(m.sums[i].*kMember));
    }
    return warp_sum(sum);
}

TARPON_DEVICE StepScalars device_scalars(const StepScalars &given) {
    StepScalars s = given;
    if (s.device_lr) {
        s.lr = ptx::ld_global(s.device_lr);
        s.device_lr = nullptr;
    }
    if (s.device_grad_multiplier) {
        s.grad_multiplier = ptx::ld_global(s.device_grad_multiplier);
        s.device_grad_multiplier = nullptr;
    }
    return s;
}

// [block] Derives the coefficients of all tensors, a thread each, and starts the count of their
// measurements afresh.
TARPON_DEVICE void derive_all(const StepParams &p, int64_t step, double clip) {
    const PlanMemory &m = p.memory;
    const StepScalars s = device_scalars(p.scalars);
    for (int64_t i = ptx::thread_idx(); i < m.tensor_count; i += kThreads) {
        const TensorEntry *t = m.tensors + i;
        const double decay = s.weight_decay * ptx::ld_global(&t->decay_factor);
        double trust = 1;
        if (p.rule == Rule::kLars) {
            trust = lars_trust(ptx::ld_global(m.weight_norms + i),
                               ptx::ld_global(m.grad_norms + i) * clip, decay, s.trust_coefficient);
        }
        store_struct(m.coefficients + i,
                     derive_coefficients(p.rule, s, step, ptx::ld_global(&t->lr_factor), decay,
                                         clip, trust));
        ptx::st_global(m.progress + i, 0);
    }
}

// [block] The end of prepare_kernel, in its last block of threads.
TARPON_DEVICE void finish_prepare(const StepParams &p, MeasureStorage &storage) {
    const PlanMemory &m = p.memory;
    double total = 0;
    if (p.measure_grads) {
        for (int64_t i = ptx::warp_id(); i < m.tensor_count; i += kWarps) {
            const double grad = tensor_sum<&ChunkSums::grad>(m, i);
            const double weight = tensor_sum<&ChunkSums::weight>(m, i);
            if (ptx::lane_id() != 0) continue;
            total += grad;
            ptx::st_global(m.grad_norms + i, ::sqrt(grad));
            ptx::st_global(m.weight_norms + i, ::sqrt(weight));
        }
    }
    total = block_sum(total, storage.warp_sums[0]);  // each warp's lane 0, and thread 0 has the sum
    if (ptx::thread_idx() == 0) ptx::st_shared(&storage.warp_sums[1][0], total);
    ptx::sync_threads();
    const double norm = ::sqrt(ptx::ld_shared(&storage.warp_sums[1][0]));
    const double clip = p.measure_grads ? clip_factor(norm, p.scalars.max_grad_norm) : 1.0;
    const bool skip = p.measure_grads && ptx::ld_global(&m.state->not_finite) != 0;
    const int64_t step = ptx::ld_global(&m.control->step) + 1;
    derive_all(p, step, clip);
    ptx::sync_threads();
    if (ptx::thread_idx() != 0) return;
    ptx::st_global(&m.state->step, step);
    ptx::st_global(&m.state->clip, clip);
    ptx::st_global(&m.state->skip, int32_t(skip));
    ptx::st_global(&m.state->not_finite, 0);
    ptx::st_global(&m.state->ticket, 0);
    ptx::st_global(&m.state->next_item, 0);
    ptx::st_global(&m.control->skipped_blocks, ptx::ld_global(&m.control->skipped_blocks) +
                                                   ptx::ld_global(&m.state->skipped_blocks));
    ptx::st_global(&m.state->skipped_blocks, 0);
    if (p.measure_grads) ptx::st_global(&m.control->grad_norm, norm);
    if (p.hessian) return;
    if (skip) {
        ptx::st_global(&m.control->skipped_steps, ptx::ld_global(&m.control->skipped_steps) + 1);
    } else {
        ptx::st_global(&m.control->step, step);
    }
}

// The first launch of every step. A grid of one block of threads if nothing is measured.
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2) sm80_optim_prepare_kernel(StepParams p) {
    auto &storage = shared_storage<MeasureStorage>();
    const PlanMemory &m = p.memory;
    const auto multiplier = float(device_scalars(p.scalars).grad_multiplier);
    bool finite = true;
    for (int64_t i = ptx::block_idx(); p.measure_grads && i < m.chunk_count; i += ptx::grid_dim()) {
        const Chunk chunk = ptx::ld_global(m.chunks + i);
        load_work(m, chunk.tensor, storage.work);
        const TensorEntry &t = storage.work.tensor;
        const int64_t first = int64_t(chunk.index) * kChunkBlocks;
        const int64_t blocks = block_count(t.elems);
        double grad_sum = 0, weight_sum = 0;
        for (int64_t b = first + ptx::warp_id(); b < first + kChunkBlocks && b < blocks;
             b += kWarps) {
            const LaneSpan span(t.elems, b);
            float v[kLaneElems];
            load_lane(t.grad, t.grad_dtype, span, v);
            TARPON_UNROLL
            for (int k = 0; k < kLaneElems; ++k) {
                const float g = v[k] * multiplier;
                finite = finite && lanes::abs(g) < kGradientLimit;
                grad_sum += double(g) * double(g);
            }
            if (!p.measure_weights) continue;
            load_lane(t.param, t.param_dtype, span, v);
            TARPON_UNROLL
            for (int k = 0; k < kLaneElems; ++k)
                weight_sum += double(v[k]) * double(v[k]);
        }
        const ChunkSums sums{block_sum(grad_sum, storage.warp_sums[0]),
                             block_sum(weight_sum, storage.warp_sums[1]), 0};
        if (ptx::thread_idx() == 0) store_struct(m.sums + i, sums);
    }
    if (!finite) ptx::atomic_add(&m.state->not_finite, 1);
    if (is_last_block(m.state, &storage.last)) finish_prepare(p, storage);
}

}  // namespace tarpon::optim
