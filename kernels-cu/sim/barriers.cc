// Operations in which threads meet: the warp rendezvous, barriers and acquire loads.
#include <algorithm>
#include <bit>
#include <cstring>

#include "sim/engine.h"

namespace tarpon::sim {
namespace {

struct BarrierCall {
    int id;
    int threads;
    bool wait;
    bool operator==(const BarrierCall &) const = default;
};

void advance_clock(Warp &warp, const char *operation, Where where) {
    if (++warp.clock.seen[warp.index] < kMaxTime) return;
    engine().fail(operation, where,
                  "a warp passed " + std::to_string(kMaxTime) +
                      " barriers with no sync_threads in between: the race detector's clocks end");
}

void open_barrier(Block &block, Barrier &barrier) {
    for (Warp &warp : block.warps) {
        if (!(barrier.waiting_warps >> warp.index & 1)) continue;
        for (int w = 0; w < kMaxWarps; ++w) {
            warp.clock.seen[w] = std::max(warp.clock.seen[w], barrier.joined.seen[w]);
        }
        warp.ready = kFullWarp;
    }
    barrier = {};
}

// A barrier of the whole block puts every access in the past, so the clocks may start again.
void restart_clocks(Block &block) {
    block.shared.forget_accesses();
    for (Warp &warp : block.warps)
        std::fill_n(warp.clock.seen, kMaxWarps, 1u);
}

void arrive(Warp &warp, const BarrierCall &call, const char *operation, Where where) {
    Block &block = *warp.block;
    Barrier &barrier = block.barriers[call.id];
    if (barrier.threads == 0) {
        barrier = {};
        barrier.threads = call.threads;
        barrier.where = where;
    } else if (barrier.threads != call.threads) {
        engine().fail(operation, where,
                      "threads expect " + std::to_string(call.threads) + " and " +
                          std::to_string(barrier.threads) + " threads at barrier " +
                          std::to_string(call.id),
                      "the other is " + describe(operation, barrier.where));
    } else if (call.id == 0 && !same_place(barrier.where, where)) {
        const Warp &other = block.warps[std::countr_zero(barrier.arrived_warps)];
        engine().fail(operation, where,
                      "barrier divergence: threads of a block are at different sync_threads",
                      describe(other.lanes[0]) + " waits in " + describe(operation, barrier.where));
    }
    if (barrier.arrived_warps >> warp.index & 1) {
        engine().fail(operation, where,
                      "a warp arrives again at barrier " + std::to_string(call.id) +
                          ", which has not opened since it did");
    }
    advance_clock(warp, operation, where);
    for (int w = 0; w < kMaxWarps; ++w) {
        barrier.joined.seen[w] = std::max(barrier.joined.seen[w], warp.clock.seen[w]);
    }
    barrier.arrived_warps |= 1u << warp.index;
    if (call.wait) {
        barrier.waiting_warps |= 1u << warp.index;
        warp.ready = 0;
    }
    if (32 * std::popcount(barrier.arrived_warps) < call.threads) return;
    open_barrier(block, barrier);
    if (call.id == 0 && warp.clock.seen[warp.index] > kMaxTime / 2) restart_clocks(block);
}

const WarpOp kSyncWarp = {"sync_warp",
                          [](Warp &warp) { advance_clock(warp, "sync_warp", warp.op_where); }};

const WarpOp kSyncThreads = {
    "sync_threads", [](Warp &warp) {
        for (const Thread &thread : warp.block->threads) {
            if (!thread.exited) continue;
            engine().fail("sync_threads", warp.op_where,
                          "exit divergence: a block meets after one of its threads returned",
                          describe(thread) + " has returned");
        }
        arrive(warp, {0, warp.block->position.block_dim, true}, "sync_threads", warp.op_where);
    }};

const WarpOp kNamedBarrier = {
    "named barrier", [](Warp &warp) {
        const auto &call = *static_cast<const BarrierCall *>(warp.arguments[0]);
        for (int lane = 1; lane < 32; ++lane) {
            const auto &other = *static_cast<const BarrierCall *>(warp.arguments[lane]);
            if (other == call) continue;
            engine().fail(
                "named barrier", warp.op_where, "lanes of one warp name different barriers",
                "lane 0: barrier " + std::to_string(call.id) + ", " + std::to_string(call.threads) +
                    " threads; lane " + std::to_string(lane) + ": barrier " +
                    std::to_string(other.id) + ", " + std::to_string(other.threads) + " threads");
        }
        arrive(warp, call, call.wait ? "named_barrier_sync" : "named_barrier_arrive",
               warp.op_where);
    }};

}  // namespace

bool same_place(Where a, Where b) {
    static_assert(sizeof(Where) == sizeof(void *));  // usually the same constant
    if (std::memcmp(&a, &b, sizeof a) == 0) return true;
    return a.line() == b.line() && a.column() == b.column() &&
           std::strcmp(a.file_name(), b.file_name()) == 0;
}

void rendezvous(const WarpOp &op, void *argument, Where where) {
    Thread &thread = engine().current();
    Warp &warp = *thread.warp;
    if (warp.arrived == 0) {
        warp.op = &op;
        warp.op_where = where;
        if (warp.exited) {
            engine().fail(op.name, where,
                          "exit divergence: a warp meets after one of its lanes returned",
                          describe(warp.lanes[std::countr_zero(warp.exited)]) + " has returned");
        }
    } else if (warp.op != &op || !same_place(warp.op_where, where)) {
        engine().fail(op.name, where,
                      "warp divergence: lanes of one warp are at different operations",
                      describe(warp.lanes[std::countr_zero(warp.arrived)]) + " waits in " +
                          describe(warp.op->name, warp.op_where));
    }
    warp.arguments[thread.lane] = argument;
    warp.arrived |= thread.lane_bit();
    warp.ready &= ~thread.lane_bit();
    thread.waits_in = op.name;
    thread.waits_at = where;
    if (warp.arrived == kFullWarp) {
        warp.arrived = 0;
        warp.ready = kFullWarp;
        op.complete(warp);
    }
    if (!(warp.ready & thread.lane_bit())) engine().leave();
    thread.waits_in = nullptr;
}

void sync_warp(Where where) {
    rendezvous(kSyncWarp, nullptr, where);
}

void sync_threads(Where where) {
    rendezvous(kSyncThreads, nullptr, where);
}

void named_barrier(int id, int threads, bool wait, Where where) {
    const char *operation = wait ? "named_barrier_sync" : "named_barrier_arrive";
    const int block_threads = current_position->block_dim;
    if (id < 1 || id >= kNamedBarriers) {
        engine().fail(operation, where,
                      "barrier " + std::to_string(id) + " is outside 1.." +
                          std::to_string(kNamedBarriers - 1) + " (0 belongs to sync_threads)");
    }
    if (threads < 32 || threads % 32 || threads > block_threads) {
        engine().fail(operation, where,
                      std::to_string(threads) +
                          " threads at a barrier: it must be a multiple of 32 within the block's " +
                          std::to_string(block_threads));
    }
    BarrierCall call{id, threads, wait};
    rendezvous(kNamedBarrier, &call, where);
}

// A thread that looks again and finds the same is spinning: it sleeps until the value changes.
int32_t ld_acquire(const int32_t *pointer, Where where) {
    check_global_bounds("ld_acquire", pointer, sizeof *pointer, where);
    Thread &thread = engine().current();
    if (thread.polled == pointer && thread.polled_value == *pointer) {
        thread.waits_in = "ld_acquire";
        thread.waits_at = where;
        engine().park();
        thread.waits_in = nullptr;
    } else {
        engine().leave();
    }
    thread.polled = pointer;
    thread.polled_value = *pointer;
    return *pointer;
}

void st_release(int32_t *pointer, int32_t value, Where where) {
    check_global_store("st_release", pointer, sizeof *pointer, where);
    *pointer = value;
}

int32_t atomic_add(int32_t *pointer, int32_t value, Where where) {
    check_global_load("atomic_add", pointer, sizeof *pointer, where);
    check_global_store("atomic_add", pointer, sizeof *pointer, where);
    const int32_t before = *pointer;
    *pointer = int32_t(uint32_t(before) + uint32_t(value));
    return before;
}

}  // namespace tarpon::sim
