// Protocol. run() fills the job, opens state_, raises epoch_ and works along. A worker that sees a
// new epoch joins by adding itself to state_ while that is open, works, and leaves. run() closes
// state_ when no task is left to take and waits only for the workers that joined: a worker that
// the scheduler has not woken yet delays nobody, which matters on a loaded machine.
#include "cpu/thread_pool.h"

#include <immintrin.h>
#include <sched.h>
#include <signal.h>

#include <system_error>

#include "status.h"

namespace tarpon::cpu {
namespace {

constexpr uint32_t kOpen = 1u << 31;

// An idle thread polls before it sleeps, for 1 to 2 ms: waking a sleeper takes 50 us on bare metal
// and up to 4 ms where a hypervisor has taken the idle processor away (measured), many times a
// layer's whole work, and a decoding engine calls layer after layer at intervals of microseconds.
// After the first 50 us it offers its processor to other threads between two looks.
constexpr int kEagerSpins = 2000;
constexpr int kSpins = 40000;
constexpr int kSpinsPerYield = 50;

// Blocks until `value` differs from `old`.
void wait_for_change(const std::atomic<uint32_t> &value, uint32_t old, int spin_limit) noexcept {
    for (int i = 0; i < spin_limit; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        if (i >= kEagerSpins && i % kSpinsPerYield == 0) sched_yield();
        _mm_pause();
    }
    value.wait(old, std::memory_order_acquire);
}

// Workers take no signals: an application's handlers must not run on threads it does not know.
class SignalsBlocked {
  public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

  private:
    sigset_t saved_;
};

}  // namespace

int ThreadPool::available_processors() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    // Fails on machines of more than 1024 processors.
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const unsigned count = std::thread::hardware_concurrency();
    return count > 0 ? static_cast<int>(count) : 1;
}

ThreadPool::ThreadPool(int thread_count)
    : thread_count_(thread_count),
      // With more threads than processors a spinning thread keeps a working one from running.
      spin_limit_(thread_count <= available_processors() ? kSpins : 0),
      ranges_(static_cast<size_t>(thread_count)) {
    SignalsBlocked guard;
    try {
        workers_.reserve(static_cast<size_t>(thread_count - 1));
        for (int i = 1; i < thread_count; ++i)
            workers_.emplace_back([this] { worker_loop(); });
    } catch (const std::system_error &error) {
        const size_t started = workers_.size();
        stop_workers();
        fail(TARPON_ERROR_OUT_OF_MEMORY, "the system refused worker thread %zu of %d: %s",
             started + 1, thread_count - 1, error.what());
    }
}

ThreadPool::~ThreadPool() {
    stop_workers();
}

void ThreadPool::stop_workers() noexcept {
    stopping_.store(true, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (std::thread &worker : workers_)
        worker.join();
    workers_.clear();
}

void ThreadPool::take_tasks(int first_range) noexcept {
    for (int i = 0; i < thread_count_; ++i) {
        Range &range = ranges_[static_cast<size_t>((first_range + i) % thread_count_)];
        for (;;) {
            const int64_t task = range.next.fetch_add(1, std::memory_order_relaxed);
            if (task >= range.end) break;
            task_(context_, task);
        }
    }
}

void ThreadPool::worker_loop() noexcept {
    uint32_t seen = 0;
    for (;;) {
        wait_for_change(epoch_, seen, spin_limit_);
        seen = epoch_.load(std::memory_order_acquire);
        if (stopping_.load(std::memory_order_relaxed)) return;
        uint32_t state = state_.load(std::memory_order_relaxed);
        while (state & kOpen) {
            if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
                continue;
            }
            // The caller has range 0. Two workers may get one range if a third has left already.
            take_tasks(static_cast<int>(state - kOpen) + 1);
            // The last to leave a closed job wakes its caller. An open one has nobody waiting.
            if (state_.fetch_sub(1, std::memory_order_release) == 1) state_.notify_one();
            break;
        }
    }
}

void ThreadPool::run(int64_t task_count, Task task, const void *context) noexcept {
    if (task_count <= 1 || thread_count_ == 1) {
        for (int64_t i = 0; i < task_count; ++i)
            task(context, i);
        return;
    }
    const std::lock_guard<std::mutex> turn(turn_);
    task_ = task;
    context_ = context;
    for (int64_t i = 0; i < thread_count_; ++i) {
        Range &range = ranges_[static_cast<size_t>(i)];
        range.next.store(task_count * i / thread_count_, std::memory_order_relaxed);
        range.end = task_count * (i + 1) / thread_count_;
    }
    state_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();

    take_tasks(0);
    uint32_t left = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while (left != 0) {
        wait_for_change(state_, left, spin_limit_);
        left = state_.load(std::memory_order_acquire);
    }
}

}  // namespace tarpon::cpu
