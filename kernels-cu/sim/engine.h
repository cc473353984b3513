// The parts of a running launch: threads (fibers) in warps in blocks, and the engine that runs
// them. Internal to the simulator; the operations of device_ops.h work on these.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sim/control.h"
#include "sim/device_ops.h"
#include "sim/fiber.h"
#include "sim/launch.h"
#include "sim/shared_memory.h"

namespace tarpon::sim {

inline constexpr uint32_t kFullWarp = 0xffffffffu;
inline constexpr int kNamedBarriers = 16;

struct Warp;
struct Block;

// One cp.async that has not arrived.
struct AsyncCopy {
    void *smem;
    const void *gmem;
    int bytes;
    int src_bytes;
    uint32_t group;
    Where where;
};

struct Thread : Position {
    Fiber fiber;
    Block *block;
    Warp *warp;
    int lane;
    bool exited;
    // The operation it waits in, for reports; null while it can run.
    const char *waits_in;
    Where waits_at;
    // What it saw when it last polled; a second look that finds the same parks it.
    const int32_t *polled;
    int32_t polled_value;
    bool parked;
    std::vector<AsyncCopy> copies;  // oldest first
    uint32_t open_group;            // number of the group that the next commit closes

    uint32_t lane_bit() const { return 1u << lane; }
};

// What a warp does when its last lane arrives.
struct WarpOp {
    const char *name;
    void (*complete)(Warp &warp);
};

struct Warp {
    Block *block;
    Thread *lanes;
    int index;
    uint32_t ready;    // lanes that can run
    uint32_t exited;   // lanes that have returned
    uint32_t arrived;  // lanes at the operation below
    const WarpOp *op;
    Where op_where;
    void *arguments[32];  // one per lane, on the lanes' stacks
    Clock clock;
};

struct Barrier {
    int threads;  // that open it; 0: nobody is here
    uint32_t arrived_warps;
    uint32_t waiting_warps;  // a subset: named_barrier_arrive does not wait
    Where where;             // of the first to arrive
    Clock joined;            // what all that arrived have seen together
};

struct Block {
    Position position;  // thread_idx is of no meaning
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    int last_warp;  // where the round robin goes on
    int live_threads;
    Barrier barriers[kNamedBarriers];
    SharedMemory shared;
    std::unique_ptr<StackSlab> stacks;
};

class Engine {
  public:
    // Empty if the launch ended well, else the report.
    std::string run(const Launch &launch);

    // ---- For the operations; all on the fiber of the running thread ----
    Thread &current() { return *current_; }
    const Launch &launch() const { return *launch_; }
    // Lets others run; returns once the running thread is ready and its turn has come.
    void leave();
    // The same, not ready before the value it polled changes (or nothing else is left to do).
    void park();
    // A store, or a thread's end: something that a polling thread may have waited for.
    void note_progress() { futile_rounds_ = 0; }
    // Ends the launch with a report. `what` is one sentence, `details` further lines or empty.
    [[noreturn]] void fail(const char *operation, Where where, const std::string &what,
                           const std::string &details = {});

  private:
    static void thread_entry();
    void finish_thread();
    void start_block();
    void finish_block(size_t index);
    bool run_some_thread();
    bool wake_parked(bool all);
    void switch_to(Thread &thread);
    int pick(uint32_t candidates, int after);
    std::string deadlock_report() const;
    std::string header(const std::string &what) const;

    const Launch *launch_ = nullptr;
    Schedule schedule_;
    std::mt19937_64 random_;
    Fiber host_;
    Thread *current_ = nullptr;
    std::vector<std::unique_ptr<Block>> active_;
    std::vector<std::unique_ptr<Block>> idle_;  // kept for the next launch: stacks are costly
    uint64_t total_blocks_ = 0;
    uint64_t started_blocks_ = 0;
    uint64_t resident_limit_ = 0;
    size_t last_block_ = 0;
    int futile_rounds_ = 0;
    std::string report_;
};

// Launches are serialised by the runtime, so there is one.
extern Engine the_engine;
inline Engine &engine() {
    return the_engine;
}

// "gemm.cuh:123 in void kernel(...)", without folders, and the same after "ld_shared at ".
std::string place(Where where);
std::string describe(const char *operation, Where where);
// "thread 37 (warp 1, lane 5)"
std::string describe(const Thread &thread);

// Whether two operations stand at the same place of the source.
bool same_place(Where a, Where b);

// What lane `lane` brought to the operation its warp has met for.
template <class T>
T &argument(Warp &warp, int lane) {
    return *static_cast<T *>(warp.arguments[lane]);
}

// All lanes of the warp meet; the last to arrive runs op.complete. `arguments` may be null.
void rendezvous(const WarpOp &op, void *arguments, Where where);

}  // namespace tarpon::sim
