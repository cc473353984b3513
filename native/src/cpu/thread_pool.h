// A fork-join pool: the threads of one CPU device. Not OpenMP, so that libtarpon depends on no
// OpenMP runtime, does not fight the application's, and can be given its thread count per device.
//
// Threads and streams. A pool of n threads has n - 1 workers; the thread that calls run() is the
// n-th. Jobs of several callers run one after another, each with all threads: the callers that
// wait sleep, so that never more than n threads of a device are busy. A job that fits one thread
// (one task, or a pool of one) runs on its caller at once and takes no turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace tarpon::cpu {

class ThreadPool {
  public:
    // A task is called with the job's context and an index in [0, task_count).
    using Task = void (*)(const void *context, int64_t task) noexcept;

    // thread_count >= 1. Throws OUT_OF_MEMORY if the system refuses a thread.
    explicit ThreadPool(int thread_count);
    ~ThreadPool();
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;

    int thread_count() const noexcept { return thread_count_; }

    // Calls task(context, i) for every i in [0, task_count), in any order on any thread of the
    // pool, and returns when all are done. Allocates nothing. Not reentrant: a task must not call
    // run() of its own pool.
    void run(int64_t task_count, Task task, const void *context) noexcept;

    // Processors in this process's affinity mask, at least 1.
    static int available_processors() noexcept;

  private:
    void worker_loop() noexcept;
    void take_tasks(int first_range) noexcept;
    void stop_workers() noexcept;

    const int thread_count_;
    const int spin_limit_;
    std::vector<std::thread> workers_;
    std::mutex turn_;  // held by the caller whose job runs

    // The job; written while state_ is closed and has no participants, read by participants.
    Task task_ = nullptr;
    const void *context_ = nullptr;

    // The tasks, a contiguous range for each thread: neighbouring tasks read neighbouring memory,
    // which the processor prefetches. A thread that has done its own range goes on with the others'.
    struct alignas(64) Range {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    std::vector<Range> ranges_;

    // Each on its own cache line, for idle workers poll epoch_.
    alignas(64) std::atomic<uint32_t> epoch_{0};  // one more for each job, and for stopping
    alignas(64) std::atomic<uint32_t> state_{0};  // kOpen, and the count of workers taking part
    std::atomic<bool> stopping_{false};
};

}  // namespace tarpon::cpu
