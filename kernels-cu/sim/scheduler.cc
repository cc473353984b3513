// Which thread runs next, and what becomes of threads that wait.
//
// A block starts only when no started one can run, so that most launches need the stacks of one
// block; blocks that wait for one another are resident together, at most as many as the simulated
// device holds. A random schedule starts several and changes between their warps at every wait.
#include <bit>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "sim/device.h"
#include "sim/engine.h"
#include "sim/global_memory.h"

namespace tarpon::sim {

const Position *current_position = nullptr;

namespace {

// How often parked threads may look again in vain, all others waiting too, before it is a deadlock.
// More than one, since a kernel may poll a bounded number of times and then do something else.
constexpr int kFutileRounds = 64;
// Blocks that a deadlock report goes through thread by thread.
constexpr size_t kReportedBlocks = 8;
// Idle blocks kept for their stacks.
constexpr size_t kIdleBlocks = 8;

struct Violation {};  // ends the fiber whose report is written

int lowest_from(uint32_t candidates, int start) {
    const uint32_t rotated = std::rotr(candidates, start);
    return (std::countr_zero(rotated) + start) % 32;
}

int highest_below(uint32_t candidates, int start) {  // start itself comes last
    const uint32_t rotated = std::rotr(candidates, start);
    return (31 - std::countl_zero(rotated) + start) % 32;
}

std::string_view file_name(Where where) {
    std::string_view path = where.file_name();
    return path.substr(path.rfind('/') + 1);
}

const char *name(Schedule::Order order) {
    switch (order) {
        case Schedule::Order::kForward:
            return "forward";
        case Schedule::Order::kReverse:
            return "reverse";
        case Schedule::Order::kRandom:
            return "random";
    }
    return "";
}

std::string tuple(int x, int y, int z) {
    char text[48];
    std::snprintf(text, sizeof text, "(%d, %d, %d)", x, y, z);
    return text;
}

std::string tuple(const int (&v)[3]) {
    return tuple(v[0], v[1], v[2]);
}

}  // namespace

Engine the_engine;

std::string place(Where where) {
    return std::string(file_name(where)) + ":" + std::to_string(where.line()) + " in " +
           where.function_name();
}

std::string describe(const char *operation, Where where) {
    return std::string(operation) + " at " + place(where);
}

std::string describe(const Thread &thread) {
    return "thread " + std::to_string(thread.thread_idx) + " (warp " +
           std::to_string(thread.warp->index) + ", lane " + std::to_string(thread.lane) + ")";
}

std::string Engine::header(const std::string &what) const {
    const dim3 &grid = launch_->grid;
    std::string text = what;
    text.append("\n  launched at ").append(file_name(launch_->where));
    text.append(":").append(std::to_string(launch_->where.line()));
    text.append(" with grid ").append(tuple(int(grid.x), int(grid.y), int(grid.z)));
    text.append(", ").append(std::to_string(launch_->block)).append(" threads, ");
    text.append(std::to_string(launch_->shared_bytes)).append(" bytes of shared memory; schedule ");
    text.append(name(schedule_.order));
    if (schedule_.order == Schedule::Order::kRandom) {
        text.append(", seed ").append(std::to_string(schedule_.seed));
    }
    return text;
}

void Engine::fail(const char *operation, Where where, const std::string &what,
                  const std::string &details) {
    Thread &thread = current();
    report_ = header(what + "\n  by " + describe(thread) + " of block " + tuple(thread.block_idx) +
                     ", " + describe(operation, where) + (details.empty() ? "" : "\n  " + details));
    throw Violation{};
}

// The bottom of every fiber's stack. The fiber that fails unwinds to here, so that what its frames
// own is freed; the others are abandoned where they wait, holding nothing.
void Engine::thread_entry() {
    Engine &self = engine();
    enter_fiber(self.host_);
    try {
        self.launch_->thread_body();
        self.finish_thread();
    } catch (const Violation &) {
        // the report is written; the host's stack sees it
    }
    if (self.report_.empty()) {
        self.leave();
    } else {
        switch_fiber(self.current().fiber, self.host_);
    }
    __builtin_unreachable();
}

void Engine::finish_thread() {
    Thread &thread = current();
    Warp &warp = *thread.warp;
    thread.exited = true;
    warp.ready &= ~thread.lane_bit();
    warp.exited |= thread.lane_bit();
    note_progress();
    if (warp.arrived) {
        fail("return", warp.op_where,
             "exit divergence: a thread returned while its warp waits for it",
             describe(warp.lanes[std::countr_zero(warp.arrived)]) + " waits in " +
                 describe(warp.op->name, warp.op_where));
    }
    Block &block = *thread.block;
    if (const Barrier &barrier = block.barriers[0]; barrier.waiting_warps) {
        const Warp &waiting = block.warps[std::countr_zero(barrier.waiting_warps)];
        fail("return", barrier.where,
             "exit divergence: a thread returned while its block waits for it",
             describe(waiting.lanes[0]) + " waits in " + describe("sync_threads", barrier.where));
    }
    --block.live_threads;
}

void Engine::start_block() {
    std::unique_ptr<Block> block;
    const int threads = int(launch_->block);
    for (auto candidate = idle_.begin(); candidate != idle_.end(); ++candidate) {
        if ((*candidate)->stacks->stacks() != threads) continue;
        block = std::move(*candidate);
        idle_.erase(candidate);
        break;
    }
    if (!block) {
        block = std::make_unique<Block>();
        block->stacks = std::make_unique<StackSlab>(threads);
        block->threads.resize(threads);
        block->warps.resize(threads / 32);
    }

    const uint64_t nth = started_blocks_++;
    const uint64_t index =
        schedule_.order == Schedule::Order::kReverse ? total_blocks_ - 1 - nth : nth;
    const dim3 &grid = launch_->grid;
    block->position = {
        0,
        threads,
        {int(index % grid.x), int(index / grid.x % grid.y), int(index / grid.x / grid.y)},
        {int(grid.x), int(grid.y), int(grid.z)}};
    block->live_threads = threads;
    block->last_warp = schedule_.order == Schedule::Order::kReverse ? 0 : 31;
    block->shared.reset(launch_->shared_bytes, threads / 32);
    for (Barrier &barrier : block->barriers)
        barrier = {};
    for (size_t w = 0; w < block->warps.size(); ++w) {
        Warp &warp = block->warps[w];
        warp = {};
        warp.block = block.get();
        warp.lanes = &block->threads[32 * w];
        warp.index = int(w);
        warp.ready = kFullWarp;
        for (uint32_t &time : warp.clock.seen)
            time = 1;
    }
    for (int t = 0; t < threads; ++t) {
        Thread &thread = block->threads[t];
        static_cast<Position &>(thread) = block->position;
        thread.thread_idx = t;
        thread.block = block.get();
        thread.warp = &block->warps[t / 32];
        thread.lane = t % 32;
        thread.exited = false;
        thread.waits_in = nullptr;
        thread.polled = nullptr;
        thread.parked = false;
        thread.copies.clear();
        thread.open_group = 0;
        block->stacks->prepare(thread.fiber, t, &Engine::thread_entry);
    }
    active_.push_back(std::move(block));
}

void Engine::finish_block(size_t index) {
    if (idle_.size() < kIdleBlocks) idle_.push_back(std::move(active_[index]));
    active_.erase(active_.begin() + long(index));
}

int Engine::pick(uint32_t candidates, int after) {
    switch (schedule_.order) {
        case Schedule::Order::kForward:
            return lowest_from(candidates, (after + 1) % 32);
        case Schedule::Order::kReverse:
            return highest_below(candidates, after);
        case Schedule::Order::kRandom:
            break;
    }
    for (uint64_t nth = random_() % std::popcount(candidates); nth > 0; --nth) {
        candidates &= candidates - 1;
    }
    return std::countr_zero(candidates);
}

void Engine::switch_to(Thread &thread) {
    Fiber &from = current_ ? current_->fiber : host_;
    current_ = &thread;
    current_position = &thread;
    switch_fiber(from, thread.fiber);
}

// Goes on with another thread of this warp if one can run, without a detour through the host's
// stack; a random schedule takes the detour now and then, to interleave warps.
void Engine::leave() {
    Thread &thread = current();
    const uint32_t others = thread.warp->ready & ~thread.lane_bit();
    const bool detour = schedule_.order == Schedule::Order::kRandom && random_() % 4 == 0;
    if (others && !detour) {
        switch_to(thread.warp->lanes[pick(others, thread.lane)]);
    } else {
        current_ = nullptr;
        switch_fiber(thread.fiber, host_);
    }
}

void Engine::park() {
    Thread &thread = current();
    thread.parked = true;
    thread.warp->ready &= ~thread.lane_bit();
    leave();
}

bool Engine::run_some_thread() {
    const size_t blocks = active_.size();
    const size_t first = schedule_.order == Schedule::Order::kRandom && blocks
                             ? size_t(random_() % blocks)
                             : last_block_;
    for (size_t i = 0; i < blocks; ++i) {
        const size_t index = (first + i) % blocks;
        Block &block = *active_[index];
        uint32_t ready = 0;
        for (const Warp &warp : block.warps)
            ready |= uint32_t(warp.ready != 0) << warp.index;
        if (!ready) continue;
        last_block_ = index;
        const int w = block.last_warp = pick(ready, block.last_warp);
        Warp &warp = block.warps[w];
        const int before_first = schedule_.order == Schedule::Order::kReverse ? 0 : 31;
        switch_to(warp.lanes[pick(warp.ready, before_first)]);
        if (block.live_threads == 0 && report_.empty()) {
            finish_block(index);
            last_block_ = 0;
        }
        return true;
    }
    return false;
}

bool Engine::wake_parked(bool all) {
    bool woken = false;
    for (const auto &block : active_) {
        for (Thread &thread : block->threads) {
            if (!thread.parked || (!all && *thread.polled == thread.polled_value)) continue;
            thread.parked = false;
            thread.warp->ready |= thread.lane_bit();
            woken = true;
        }
    }
    return woken;
}

std::string Engine::deadlock_report() const {
    std::string lines;
    size_t shown = 0;
    for (const auto &block : active_) {
        if (shown++ == kReportedBlocks) {
            lines.append("\n  and the like in ");
            lines.append(std::to_string(active_.size() - kReportedBlocks)).append(" more blocks");
            break;
        }
        const Thread *previous = nullptr;
        int more = 0;
        const auto flush = [&] {
            if (more) lines += " (and " + std::to_string(more) + " more threads)";
            more = 0;
        };
        for (const Thread &thread : block->threads) {
            if (thread.exited) continue;
            const bool same = previous && previous->waits_in == thread.waits_in &&
                              previous->waits_at.line() == thread.waits_at.line();
            if (same) {
                ++more;
                continue;
            }
            flush();
            lines += "\n  block " + tuple(thread.block_idx) + " " + describe(thread) +
                     " waits in " + describe(thread.waits_in, thread.waits_at);
            if (thread.parked) {
                lines += ", where it keeps finding " + std::to_string(thread.polled_value);
            }
            previous = &thread;
        }
        flush();
    }
    std::string what = "deadlock: no thread can go on" + lines;
    if (started_blocks_ < total_blocks_) {
        what += "\n  " + std::to_string(total_blocks_ - started_blocks_) + " of " +
                std::to_string(total_blocks_) + " blocks have not started, since only " +
                std::to_string(resident_limit_) + " fit on the device at once";
    }
    return header(what);
}

std::string Engine::run(const Launch &launch) {
    launch_ = &launch;
    schedule_ = schedule();
    random_.seed(schedule_.seed);
    host_ = {};
    report_.clear();
    total_blocks_ = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    started_blocks_ = 0;
    last_block_ = 0;
    futile_rounds_ = 0;
    resident_limit_ =
        uint64_t(processor_count()) * blocks_per_processor(int(launch.block), launch.shared_bytes);

    while (report_.empty() && (started_blocks_ < total_blocks_ || !active_.empty())) {
        const bool can_start = started_blocks_ < total_blocks_ && active_.size() < resident_limit_;
        if (can_start && schedule_.order == Schedule::Order::kRandom && random_() % 64 == 0) {
            start_block();
            continue;
        }
        if (run_some_thread() || wake_parked(false)) continue;
        if (can_start) {
            start_block();
        } else if (++futile_rounds_ > kFutileRounds || !wake_parked(true)) {
            report_ = deadlock_report();
        }
    }
    current_ = nullptr;
    current_position = nullptr;
    active_.clear();
    if (report_.empty()) {
        const std::string damage = global_memory().damaged_red_zone();
        if (!damage.empty()) report_ = header("out of bounds: " + damage);
    }
    return report_;
}

}  // namespace tarpon::sim
