// Decode attention over packed codes: the kernel. Instantiated by attend_64.cu and the like,
// launched by attend.cu.
//
//     block: query rows of a kv head of a sequence x one split of its keys, or sinks and window
//       find_work, prepare_row                    query.cuh    RoPE, rotation, operands
//       for each chunk of 32 keys of a warp:
//         ChunkQueue                              stage.cuh    cp.async, up to 4 chunks ahead
//         Softmax::add_chunk                      softmax.cuh  mma.sync on codes, online softmax
//       gather_warps
//       hand_over, and in the last block of a group await_group and merge
//       finish_row                                             rotation back, rounding
//
// In mode rotatekv a block takes the kv heads whose keys are rotated together, so that each key is
// turned back once for all of its query rows, and a chunk is
//         TurnedKeys                              turned_keys.cuh
//         Softmax::score_turned, finish_chunk
//
// A group's blocks follow one another, and only the last waits, for blocks before it, which the
// hardware has started by then. Sums are added in the order of warps and splits, whoever is first.
#pragma once

#include "common/launch.cuh"
#include "kv_cache/attend_kernel.h"
#include "kv_cache/softmax.cuh"

namespace tarpon::kv_cache {

// The result of a block's head: unscaled outputs, what their weights add up to, and their reference.
template <class Config>
struct Partial {
    float out[Config::kRows][Config::kHeadDim];
    float top[Config::kRows], sum[Config::kRows];
};

// 2^(top - reference), where a top of minus infinity stands for no keys at all.
TARPON_DEVICE float rescale(float top, float reference) {
    return top > minus_infinity() ? exp2f(top - reference) : 0.0f;
}

// [block] Each warp's outputs into shared memory, relative to the largest top of all warps of its
// head, which are those that equal it modulo `heads`; `sums` then holds each warp's share of a row's
// sum, and tops[head] the reference.
template <class Config>
TARPON_DEVICE void gather_warps(Softmax<Config> &softmax, int v_bits, int heads, int warps,
                                AttendStorage<Config> &storage) {
    using Rows = float[Config::kRows][Config::kHeadDim];
    const int warp = ptx::warp_id(), g = ptx::lane_id() / 4, m = ptx::lane_id() % 4;
    auto &rows = reinterpret_cast<Rows *>(storage.stages)[warp];
    float factor[Config::kRowTiles][2];
    ptx::sync_threads();  // the stages are free
    TARPON_UNROLL
    for (int t = 0; t < Config::kRowTiles; ++t) {
        TARPON_UNROLL
        for (int c = 0; c < 2; ++c) {
            const int row = Softmax<Config>::row_of(t, c);
            if (g == 0 && m < 2) ptx::st_shared(&storage.tops[warp][row], softmax.top[t][c]);
        }
    }
    ptx::sync_threads();
    TARPON_UNROLL
    for (int t = 0; t < Config::kRowTiles; ++t) {
        TARPON_UNROLL
        for (int c = 0; c < 2; ++c) {
            const int row = Softmax<Config>::row_of(t, c);
            float reference = minus_infinity();
            for (int other = warp % heads; other < warps; other += heads) {
                const float top = ptx::ld_shared(&storage.tops[other][row]);
                reference = top > reference ? top : reference;
            }
            factor[t][c] = rescale(softmax.top[t][c], reference);
            softmax.top[t][c] = reference;
            float sum = softmax.sum[t][c] * factor[t][c];
            TARPON_UNROLL
            for (int mask = 4; mask < 32; mask *= 2)
                sum += ptx::shfl_xor(sum, mask);
            if (g == 0 && m < 2) ptx::st_shared(&storage.sums[warp][row], sum);
        }
    }
    ptx::sync_threads();  // tops have been read
    TARPON_UNROLL
    for (int t = 0; t < Config::kRowTiles; ++t) {
        TARPON_UNROLL
        for (int c = 0; c < 2; ++c) {
            const int row = Softmax<Config>::row_of(t, c);
            if (warp < heads && g == 0 && m < 2)
                ptx::st_shared(&storage.tops[warp][row], softmax.top[t][c]);
        }
        TARPON_UNROLL
        for (int i = 0; i < Config::kOutTiles; ++i) {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half) {
                const KChannel at = v_run_channel(Config::kHeadDim, v_bits, 2 * i + half, g);
                const float unit =
                    (v_bits == 16 ? 1 : 0x1p24f) / (kWeightUnit * float(1 << at.shift));
                float both[2];
                TARPON_UNROLL
                for (int c = 0; c < 2; ++c) {
                    const float x = softmax.out[t][i][2 * half + c];
                    both[c] = (x + ptx::shfl_xor(x, 2)) * factor[t][c] * unit;
                }
                // Lanes m and m ^ 2 have the same two numbers; each stores one.
                ptx::st_shared(&rows[Softmax<Config>::row_of(t, m / 2)][at.channel],
                               m < 2 ? both[0] : both[1]);
            }
        }
    }
    ptx::sync_threads();
}

// [warp] A row of a head after gather_warps(): what its warps made of it, and their sum.
template <class Config>
TARPON_DEVICE float gathered_row(const AttendStorage<Config> &storage, int head, int heads,
                                 int warps, int r,
                                 float (&x)[HeadVector<Config::kHeadDim>::kElems]) {
    using Head = HeadVector<Config::kHeadDim>;
    using Rows = float[Config::kRows][Config::kHeadDim];
    float sum = 0;
    for (int warp = head; warp < warps; warp += heads) {
        const auto &rows = reinterpret_cast<const Rows *>(storage.stages)[warp];
        TARPON_UNROLL
        for (int i = 0; Head::owns() && i < Head::kElems; ++i) {
            const float part = ptx::ld_shared(&rows[r][Head::channel(i)]);
            x[i] = warp == head ? part : x[i] + part;
        }
        sum += ptx::ld_shared(&storage.sums[warp][r]);
    }
    return sum;
}

// [warp] Scales a row, rotates it back and stores it.
template <class Config>
TARPON_DEVICE void finish_row(const AttendParams &p, const Work &w, int head, int r, float sum,
                              float (&x)[HeadVector<Config::kHeadDim>::kElems]) {
    const float inverse = sum > 0 ? 1 / sum : 0.0f;
    TARPON_UNROLL
    for (int i = 0; i < HeadVector<Config::kHeadDim>::kElems; ++i)
        x[i] *= inverse;
    rotate_vector<Config::kHeadDim>(p.plan, x);
    store_vector<Config::kHeadDim>(p.o, p.plan.element, w.element(p, head, r), p.vectors, x);
}

// [block] Leaves the block's results in the workspace and announces them.
template <class Config>
TARPON_DEVICE void hand_over(const AttendParams &p, const Work &w, int heads, int warps,
                             bool announce, const AttendStorage<Config> &storage) {
    using Head = HeadVector<Config::kHeadDim>;
    auto *partials =
        reinterpret_cast<Partial<Config> *>(p.partials) + int64_t{ptx::block_idx()} * heads;
    for (int i = ptx::warp_id(); i < heads * w.rows; i += kKernelWarps) {
        const int head = i / w.rows, r = i % w.rows;
        Partial<Config> &partial = partials[head];
        float x[Head::kElems] = {};
        const float sum = gathered_row<Config>(storage, head, heads, warps, r, x);
        TARPON_UNROLL
        for (int e = 0; Head::owns() && e < Head::kElems; ++e)
            ptx::st_global(&partial.out[r][Head::channel(e)], x[e]);
        if (ptx::lane_id() == 0) {
            ptx::st_global(&partial.top[r], ptx::ld_shared(&storage.tops[head][r]));
            ptx::st_global(&partial.sum[r], sum);
        }
    }
    ptx::sync_threads();
    if (announce && ptx::thread_idx() == 0) {
        ptx::st_release(&p.flags[ptx::block_idx()].high, p.ticket.high);
        ptx::st_release(&p.flags[ptx::block_idx()].low, p.ticket.low);
    }
}

// [block] Waits for the `count` blocks before this one. Leaves their flags cleared: a replay of
// this launch in a CUDA graph brings the same ticket.
TARPON_DEVICE void await_group(const AttendParams &p, int count) {
    for (int i = ptx::thread_idx(); i < count; i += kKernelThreads) {
        Ticket *flag = &p.flags[ptx::block_idx() - count + i];
        while (ptx::ld_acquire(&flag->low) != p.ticket.low ||
               ptx::ld_acquire(&flag->high) != p.ticket.high) {
        }
        ptx::st_release(&flag->low, 0);
        ptx::st_release(&flag->high, 0);
    }
    ptx::sync_threads();
}

// [block] Adds up the results of the last `count` blocks, this one included, in their order.
template <class Config>
TARPON_DEVICE void merge(const AttendParams &p, const Work &w, int heads, int count) {
    using Head = HeadVector<Config::kHeadDim>;
    const auto *partials = reinterpret_cast<const Partial<Config> *>(p.partials) +
                           int64_t{ptx::block_idx() - (count - 1)} * heads;
    for (int task = ptx::warp_id(); task < heads * w.rows; task += kKernelWarps) {
        const int head = task / w.rows, r = task % w.rows;
        const auto part = [&](int i) -> const Partial<Config> & {
            return partials[i * heads + head];
        };
        float reference = minus_infinity();
        for (int i = ptx::lane_id(); i < count; i += 32) {
            const float top = ptx::ld_global(&part(i).top[r]);
            reference = top > reference ? top : reference;
        }
        for (int mask = 1; mask < 32; mask *= 2) {
            const float other = ptx::shfl_xor(reference, mask);
            reference = other > reference ? other : reference;
        }
        float x[Head::kElems] = {}, sum = 0;
        for (int i = 0; i < count; ++i) {
            const float factor = rescale(ptx::ld_global(&part(i).top[r]), reference);
            sum += ptx::ld_global(&part(i).sum[r]) * factor;
            TARPON_UNROLL
            for (int e = 0; Head::owns() && e < Head::kElems; ++e)
                x[e] += ptx::ld_global(&part(i).out[r][Head::channel(e)]) * factor;
        }
        finish_row<Config>(p, w, head, r, sum, x);
    }
}

// [block] Attends the block's chunks of codes, a warp's own. Returns how many warps did.
template <class Config>
TARPON_DEVICE int attend_codes(const AttendParams &p, const Work &work,
                               AttendStorage<Config> &storage, Softmax<Config> &softmax) {
    ChunkQueue<Config> queue(p, work, storage.stages);
    queue.start();
    while (!queue.done()) {
        queue.wait();
        softmax.add_chunk(p, storage, work, queue.chunk(), queue.stage(), queue.slot());
        queue.advance();
    }
    ptx::cp_async_wait<0>();
    return queue.stage().warps;
}

// [block] The same in mode rotatekv: warps of a rotation turn its keys back together, and each scores
// those of its head.
template <class Config>
TARPON_DEVICE int attend_turned(const AttendParams &p, const Work &work,
                                AttendStorage<Config> &storage, Softmax<Config> &softmax) {
    const StageLayout &stage = work.recent ? p.recent_stage : p.code_stage;
    for (TurnedKeys<Config> keys(p, work, storage.stages); !keys.done(); keys.advance()) {
        typename Softmax<Config>::Scores scores = {};
        TARPON_NO_UNROLL
        for (int tile = 0; tile < kChunkTiles; ++tile) {
            ptx::sync_threads();  // the tile before has been scored, and its values added
            keys.turn(tile);
            if (keys.has_chunk()) {
                softmax.score_turned(storage.queries[keys.head()], keys.keys(),
                                     keys.first_channel(), tile, scores);
            }
        }
        if (!keys.has_chunk()) continue;
        ptx::sync_warp();
        keys.fetch_values(stage);
        softmax.finish_chunk(p, work, keys.chunk(), stage, keys.values(), scores);
    }
    return kKernelWarps;
}

template <class Config>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kKernelThreads, Config::kBlocksPerProcessor)
    sm80_kv_attend_kernel(AttendParams p) {
    auto &storage = shared_storage<AttendStorage<Config>>();
    const Work work = find_work<Config>(p);
    const int heads = Config::heads(p);
    for (int i = ptx::warp_id(); i < heads * Config::kRows; i += kKernelWarps)
        prepare_row<Config>(p, work, i / Config::kRows, i % Config::kRows, storage);
    ptx::sync_threads();

    Softmax<Config> softmax;
    softmax.begin(storage, ptx::warp_id() % heads);
    int warps;
    if constexpr (Config::kTurnsKeys) {
        warps = attend_turned(p, work, storage, softmax);
    } else {
        warps = attend_codes(p, work, storage, softmax);
    }
    const int v_bits = work.recent ? 16 : p.plan.format.v_bits;
    gather_warps<Config>(softmax, v_bits, heads, warps, storage);
    const int items = p.splits + p.recent_items;
    if (items == 1) {
        for (int i = ptx::warp_id(); i < heads * work.rows; i += kKernelWarps) {
            const int head = i / work.rows, r = i % work.rows;
            float x[HeadVector<Config::kHeadDim>::kElems] = {};
            const float sum = gathered_row<Config>(storage, head, heads, warps, r, x);
            finish_row<Config>(p, work, head, r, sum, x);
        }
        return;
    }
    const bool last = ptx::block_idx() % items == items - 1;
    hand_over<Config>(p, work, heads, warps, !last, storage);
    if (!last) return;
    await_group(p, items - 1);
    merge<Config>(p, work, heads, items);
}

template <int kHeadDim, int kRowTiles, Scheme kScheme>
AttendKernel attend_kernel() {
    using Config = AttendConfig<kHeadDim, kRowTiles, kScheme>;
    return {sm80_kv_attend_kernel<Config>, sizeof(AttendStorage<Config>)};
}

}  // namespace tarpon::kv_cache
