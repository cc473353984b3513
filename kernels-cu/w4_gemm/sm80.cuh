// y[M, N] = x[M, K] * W[K, N] with 4- and 8-bit W, for sm_80 and newer: mma.sync on a cp.async
// pipeline, MARLIN's weight order and striped partition. README.md has the mathematics and the
// drawings.
//
// Instantiated by instances.cuh and called by launch.cu; run alone: `w4_gemm_test_sim` (simulator)
// or `w4_gemm_test_cuda`. Reading order: the kernel below, then the steps it names in
// sm80_stage.cuh, sm80_multiply.cuh and sm80_epilogue.cuh.
#pragma once

#include "w4_gemm/sm80_epilogue.cuh"

namespace tarpon::w4_gemm {

template <class Config, class T>
TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(Config::kThreads, Config::kBlocksPerSm)
    sm80_w4_gemm_kernel(Params p) {
    static_assert(sizeof(SharedStorage<Config, T>) <= size_t(Config::kSharedBytes));
    auto &storage = shared_storage<SharedStorage<Config, T>>();

    // Stripes wait for stripes with larger numbers, so these go to the blocks that start first:
    // nobody waits for a block that the hardware has not started.
    Stripe stripe;
    stripe.number = ptx::grid_dim() - 1 - ptx::block_idx();
    stripe.begin = stripe.number * p.stripe_tiles;
    stripe.end = smaller(stripe.begin + p.stripe_tiles, p.total_tiles);

    // Stages are loaded kStages - 1 tiles ahead of their fragments, and these kAhead tiles ahead of
    // their multiplication; both run on into the next columns.
    constexpr int kStages = Config::kStages, kAhead = Config::kFragmentsAhead;
    constexpr int kStagesAhead = kStages - 1 + kAhead;
    const uint64_t evict_first = ptx::create_policy_evict_first();
    StageLoader<Config, T> loader(p, stripe.begin);
    const auto load_tile = [&](int tile, int slot) {
        if (tile < stripe.end) loader.load(storage.stages[slot], p, evict_first);
        ptx::cp_async_commit();  // an empty group at the end keeps the count of pending ones right
    };
    Fragments<Config, T> fragments;
    TARPON_NO_UNROLL  // the copies are long, and this is rare
        for (int i = 0; i < kStagesAhead; ++i) load_tile(stripe.begin + i, i);
    if constexpr (kAhead == 1) {
        ptx::cp_async_wait<kStages - 1>();
        ptx::sync_threads();
        load_fragments(fragments, storage.stages[0], p);
    }

    int slot = kAhead;  // of the stage that fragments are loaded from next
    for (int tile = stripe.begin; tile < stripe.end;) {
        const int run_begin = tile;
        const int run_end = smaller((tile / p.run_tiles + 1) * p.run_tiles, stripe.end);
        Accumulators<Config> acc = {};
        for (; tile < run_end; ++tile) {
            // The stage in `slot` has arrived, and every warp is done with the one before it.
            ptx::cp_async_wait<kStages - 2>();
            ptx::sync_threads();
            load_tile(tile + kStagesAhead, slot == 0 ? kStages - 1 : slot - 1);
            const auto &stage = storage.stages[slot];
            if constexpr (kAhead == 0) load_fragments(fragments, stage, p);
            multiply<Config>(acc, fragments, stage, p);
            // Into the registers that the multiplication has left: the loads take their time while
            // this warp waits for the next stage and starts its copies.
            if (kAhead == 1 && tile + 1 < stripe.end) load_fragments(fragments, stage, p);
            slot = slot == kStages - 1 ? 0 : slot + 1;
        }
        finish_run(acc, storage, p, run_begin, stripe);
    }
}

}  // namespace tarpon::w4_gemm
