// The update of rules that first measure something that depends on clipping: Lamb the norms of a
// tensor's weights and directions, Scale those of its columns. Measures and chunks are one sequence
// of items, measures first; a block of threads takes the next item when it is done with its last.
// A chunk waits until all measures of its tensor are done. Those were taken before it, by blocks
// that therefore run already and wait for nobody: there is no deadlock, however few of the grid's
// blocks a GPU can hold at a time, and no grid has to be resident as a whole.
#pragma once

#include "optim/step.cuh"

namespace tarpon::optim {

struct MeasuredStorage {
    StepStorage step;
    double column_sums[kWarps][kStripColumns];
    double warp_sums[2][kWarps];
    int32_t item;
    int32_t last;
};

// [block] The sum of a member of a tensor's chunk sums, in thread 0; the same in every run.
template <double ChunkSums::*kMember>
TARPON_DEVICE double tensor_sum_of_block(const PlanMemory &m, int64_t tensor, double *warp_sums) {
    const int64_t end = ptx::ld_global(m.first_chunk + tensor + 1);
    double sum = 0;
    for (int64_t i = ptx::ld_global(m.first_chunk + tensor) + ptx::thread_idx(); i < end;
         i += kThreads) {
        sum += ptx::ld_global(&(m.sums[i].*kMember));
    }
    return block_sum(sum, warp_sums);
}

// Lamb: sums over chunks, its measures being the chunks themselves, then the trust ratio of the
// tensor, which becomes part of its step_size.
struct LambMeasure {
    TARPON_DEVICE static int64_t count(const TensorEntry &t) {
        return (block_count(t.elems) + kChunkBlocks - 1) / kChunkBlocks;
    }

    // [block]
    TARPON_DEVICE static void measure(const PlanMemory &m, int64_t item, Chunk chunk,
                                      MeasuredStorage &storage) {
        const TensorEntry &t = storage.step.work.tensor;
        Coefficients c = storage.step.work.coefficients;
        c.step_size = 1;
        const int64_t first = first_block_of(chunk);
        const int64_t blocks = block_count(t.elems);
        double weight_sum = 0, direction_sum = 0;
        for (int64_t block = first + ptx::warp_id(); block < first + kChunkBlocks && block < blocks;
             block += kWarps) {
            const LaneSpan span(t.elems, block);
            LaneBlock b;
            if (!load_block<LambRule>(t, c, block, span, storage.step, b)) continue;
            float direction[kLaneElems];
            lane_deltas<LambRule>(t, c, span, b, direction);
            TARPON_UNROLL
            for (int k = 0; k < kLaneElems; ++k) {
                weight_sum += double(b.param[k]) * double(b.param[k]);
                direction_sum += double(direction[k]) * double(direction[k]);
            }
        }
        const ChunkSums sums{0, block_sum(weight_sum, storage.warp_sums[0]),
                             block_sum(direction_sum, storage.warp_sums[1])};
        if (ptx::thread_idx() == 0) store_struct(m.sums + item, sums);
    }

    // [block] After all measures of the tensor.
    TARPON_DEVICE static void finish(const StepParams &p, int tensor, MeasuredStorage &storage) {
        const PlanMemory &m = p.memory;
        const double weight =
            tensor_sum_of_block<&ChunkSums::weight>(m, tensor, storage.warp_sums[0]);
        const double direction =
            tensor_sum_of_block<&ChunkSums::direction>(m, tensor, storage.warp_sums[1]);
        if (ptx::thread_idx() != 0) return;
        const double lr =
            device_scalars(p.scalars).lr * ptx::ld_global(&m.tensors[tensor].lr_factor);
        const double trust = lamb_trust(::sqrt(weight), ::sqrt(direction));
        ptx::st_global(&m.coefficients[tensor].step_size, float(lr * trust));
    }

    TARPON_DEVICE static int32_t update(int64_t first_block, const Rounding &rounding,
                                        const StepStorage &storage) {
        return update_chunk<LambRule>(first_block, rounding, storage);
    }
};

// Scale: the inverse norm of every column, of the gradient or of its new mean.
struct ScaleMeasure {
    TARPON_DEVICE static int64_t count(const TensorEntry &t) { return strip_count(t.columns); }

    TARPON_DEVICE static float element(const TensorEntry &t, const Coefficients &c,
                                       const CodeMap &map, int64_t i) {
        const float g = load_element(t.grad, t.grad_dtype, i) * c.grad_multiplier;
        if (t.update != Update::kScaleMomentum) return g;
        float m;
        if (t.format == StateFormat::kF32) {
            m = ptx::ld_global(static_cast<const float *>(t.state[0]) + i);
        } else {
            const uint8_t code = ptx::ld_global(static_cast<const uint8_t *>(t.state[0]) + i);
            m = decode(map, code) * ptx::ld_global(t.absmax[0] + i / kBlockElems);
        }
        return lanes::fma(c.beta1, m, c.rest1 * g);
    }

    // [block] A lane to a column, a warp to every kWarps-th row. The inverse norms are continued
    // periodically past the last column.
    TARPON_DEVICE static void measure(const PlanMemory &, int64_t, Chunk strip,
                                      MeasuredStorage &storage) {
        const TensorEntry &t = storage.step.work.tensor;
        const Coefficients &c = storage.step.work.coefficients;
        const int64_t column = int64_t(strip.index) * kStripColumns + ptx::lane_id();
        const int64_t rows = t.elems / t.columns;
        double sum = 0;
        for (int64_t row = ptx::warp_id(); column < t.columns && row < rows; row += kWarps) {
            const float x = element(t, c, storage.step.maps[0], row * t.columns + column);
            sum += double(x) * double(x);
        }
        ptx::st_shared(&storage.column_sums[ptx::warp_id()][ptx::lane_id()], sum);
        ptx::sync_threads();
        if (ptx::warp_id() != 0 || column >= t.columns) return;
        sum = 0;
        for (int warp = 0; warp < kWarps; ++warp)
            sum += ptx::ld_shared(&storage.column_sums[warp][ptx::lane_id()]);
        const double norm = ::sqrt(sum);
        const bool usable = norm >= 1e-30 && norm <= 1e300;  // no NaN, no infinity
        const float inverse = usable ? float(1 / norm) : 0.0f;
        for (int64_t at = column; at < t.columns + kBlockElems; at += t.columns)
            ptx::st_global(const_cast<float *>(t.inverse_norms) + at, inverse);
    }

    TARPON_DEVICE static void finish(const StepParams &, int, MeasuredStorage &) {}

    TARPON_DEVICE static int32_t update(int64_t first_block, const Rounding &rounding,
                                        const StepStorage &storage) {
        return storage.work.tensor.update == Update::kScaleMomentum
                   ? update_chunk<ScaleMomentumRule>(first_block, rounding, storage)
                   : update_chunk<ScaleRule>(first_block, rounding, storage);
    }
};

// [block]
TARPON_DEVICE int64_t take_item(StepState *state, int32_t *shared_item) {
    ptx::sync_threads();  // the item before is done with
    if (ptx::thread_idx() == 0) ptx::st_shared(shared_item, ptx::atomic_add(&state->next_item, 1));
    ptx::sync_threads();
    return ptx::ld_shared(shared_item);
}

// [block] Counts a measure of a tensor, and whether it was the last one; then this block sees what
// all others wrote of that tensor.
TARPON_DEVICE bool is_last_measure(int32_t *progress, int64_t count, int32_t *shared_flag) {
    ptx::sync_threads();
    if (ptx::thread_idx() == 0) {
        ptx::fence_acq_rel_gpu();
        const int32_t before = ptx::atomic_add(progress, 1);
        ptx::st_shared(shared_flag, int32_t(before + 1 == count));
        ptx::fence_acq_rel_gpu();
    }
    ptx::sync_threads();
    return ptx::ld_shared(shared_flag) != 0;
}

// M: LambMeasure or ScaleMeasure.
template <class M>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2) sm80_optim_measured_step_kernel(StepParams p) {
    auto &storage = shared_storage<MeasuredStorage>();
    const PlanMemory &m = p.memory;
    if (ptx::ld_global(&m.state->skip) != 0) return;
    load_maps(m.maps, storage.step);
    const Rounding rounding = rounding_of(p);
    int32_t skipped = 0;
    for (;;) {
        const int64_t item = take_item(m.state, &storage.item);
        if (item >= m.measure_count + m.chunk_count) break;
        if (item < m.measure_count) {
            const Chunk what = ptx::ld_global(m.measures + item);
            load_work(m, what.tensor, storage.step.work);
            M::measure(m, item, what, storage);
            int32_t *progress = m.progress + what.tensor;
            if (!is_last_measure(progress, M::count(storage.step.work.tensor), &storage.last)) {
                continue;
            }
            M::finish(p, what.tensor, storage);
            ptx::sync_threads();
            if (ptx::thread_idx() == 0) ptx::st_release(progress, kMeasured);
            continue;
        }
        const Chunk chunk = ptx::ld_global(m.chunks + (item - m.measure_count));
        if (ptx::thread_idx() == 0) {
            while (ptx::ld_acquire(m.progress + chunk.tensor) != kMeasured) {
            }
        }
        load_work(m, chunk.tensor, storage.step.work);  // begins with a barrier
        skipped += M::update(first_block_of(chunk), rounding, storage.step);
    }
    count_skipped(m, skipped);
}

}  // namespace tarpon::optim
