// The CPU device's thread pool. Run alone: cpu_thread_pool_test [part of a test's name].
#include "cpu/thread_pool.h"

#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <new>

#include "status.h"
#include "testing/test.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Counts what the pool might allocate in run().
void *operator new(size_t bytes) {
    ++allocations;
    if (void *address = std::malloc(bytes)) return address;
    throw std::bad_alloc();
}
void operator delete(void *address) noexcept {
    std::free(address);
}
void operator delete(void *address, size_t) noexcept {
    std::free(address);
}

namespace tarpon::cpu {
namespace {

struct Counters {
    mutable std::atomic<int> calls[1000] = {};
};

void count(const void *context, int64_t task) noexcept {
    static_cast<const Counters *>(context)->calls[task].fetch_add(1);
}

TARPON_TEST(test_thread_pool_runs_every_task_once) {
    for (int threads : {1, 2, 3, 7}) {
        ThreadPool pool(threads);
        for (int64_t tasks : {0, 1, 2, 3, 100, 1000}) {
            Counters counters;
            pool.run(tasks, count, &counters);
            for (int64_t i = 0; i < 1000; ++i) {
                CHECK_EQ(counters.calls[i].load(), i < tasks ? 1 : 0, "%d threads, task %d of %d",
                         threads, int(i), int(tasks));
            }
        }
    }
}

// Jobs in quick succession, each of which must see the state of the one before: what a worker that
// wakes late, or joins a job that is closing, would break.
TARPON_TEST(test_thread_pool_separates_jobs) {
    ThreadPool pool(3);
    struct Chain {
        mutable std::atomic<int64_t> sum{0};
    } chain;
    constexpr int kJobs = 20000;
    for (int64_t job = 0; job < kJobs; ++job) {
        pool.run(
            5,
            [](const void *context, int64_t task) noexcept {
                static_cast<const Chain *>(context)->sum.fetch_add(task);
            },
            &chain);
        if (chain.sum.load() != (job + 1) * 10) {
            CHECK_EQ(chain.sum.load(), (job + 1) * 10, "after job %d", int(job));
            return;
        }
    }
}

// Four callers on a pool of two threads: never more than two tasks at a time.
TARPON_TEST(test_thread_pool_does_not_oversubscribe) {
    ThreadPool pool(2);
    struct Load {
        mutable std::atomic<int> running{0}, most{0}, done{0};
    } load;
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([&] {
            for (int job = 0; job < 50; ++job) {
                pool.run(
                    4,
                    [](const void *context, int64_t) noexcept {
                        const auto &load = *static_cast<const Load *>(context);
                        const int now = load.running.fetch_add(1) + 1;
                        int most = load.most.load();
                        while (most < now && !load.most.compare_exchange_weak(most, now)) {
                        }
                        const auto end =
                            std::chrono::steady_clock::now() + std::chrono::microseconds(20);
                        while (std::chrono::steady_clock::now() < end) {
                        }
                        load.running.fetch_sub(1);
                        load.done.fetch_add(1);
                    },
                    &load);
            }
        });
    }
    for (std::thread &caller : callers)
        caller.join();
    CHECK_EQ(load.done.load(), 4 * 50 * 4);
    CHECK(load.most.load() <= 2, "%d tasks at a time", load.most.load());
}

// Longer than workers poll: they are asleep when the next job comes.
TARPON_TEST(test_thread_pool_wakes_sleeping_workers) {
    ThreadPool pool(2);
    for (int job = 0; job < 3; ++job) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        struct Meeting {
            mutable std::atomic<int> arrived{0};
        } meeting;
        // Two tasks that wait for one another need both threads.
        pool.run(
            2,
            [](const void *context, int64_t) noexcept {
                const auto &meeting = *static_cast<const Meeting *>(context);
                meeting.arrived.fetch_add(1);
                while (meeting.arrived.load() < 2)
                    std::this_thread::yield();
            },
            &meeting);
        CHECK_EQ(meeting.arrived.load(), 2);
    }
}

TARPON_TEST(test_thread_pool_run_allocates_nothing) {
    ThreadPool pool(2);
    Counters counters;
    pool.run(100, count, &counters);
    const int64_t before = allocations.load();
    for (int job = 0; job < 100; ++job)
        pool.run(100, count, &counters);
    CHECK_EQ(allocations.load(), before);
}

// Threads are bound to no processor: where they run, and with that on which NUMA node the memory is
// that they touch first, stays the operating system's and the application's choice.
TARPON_TEST(test_thread_pool_leaves_affinity_alone) {
    cpu_set_t own;
    REQUIRE(sched_getaffinity(0, sizeof own, &own) == 0);
    struct Meeting {
        const cpu_set_t &expected;
        mutable std::atomic<int> arrived{0}, equal{0};
    } meeting{own, 0, 0};
    ThreadPool pool(3);
    // Tasks that wait for one another are on three threads.
    pool.run(
        3,
        [](const void *context, int64_t) noexcept {
            const auto &meeting = *static_cast<const Meeting *>(context);
            cpu_set_t set;
            if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_EQUAL(&set, &meeting.expected))
                meeting.equal.fetch_add(1);
            meeting.arrived.fetch_add(1);
            while (meeting.arrived.load() < 3)
                std::this_thread::yield();
        },
        &meeting);
    CHECK_EQ(meeting.equal.load(), 3);
}

TARPON_TEST(test_thread_pool_counts_processors) {
    CHECK(ThreadPool::available_processors() >= 1);
    CHECK(ThreadPool::available_processors() <= int(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace tarpon::cpu
