// Kernels with one defect each. The simulator must catch every one, on every schedule, and say what
// it is, who did it and where: never by luck. Beside most of them stands the repaired kernel, which
// must run. Run alone: violations_test.
#include <vector>

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "sim/test/sim_testing.h"
#include "testing/device_buffer.h"

namespace tarpon::sim_tests {
namespace {

using namespace tarpon::ptx;
using testing::DeviceBuffer;

constexpr unsigned kThreads = 128;

struct Storage {
    alignas(16) uint32_t words[256];
};

// Runs a kernel that must fail, on every schedule.
template <class... Params>
void expect(std::initializer_list<const char *> parts, void (*kernel)(Params...), int grid,
            std::type_identity_t<Params>... args) {
    on_every_schedule([&](Schedule) {
        expect_report(launch(kernel, grid, kThreads, sizeof(Storage), nullptr, args...), parts);
    });
}

// Runs a kernel that must not.
template <class... Params>
void expect_clean(void (*kernel)(Params...), int grid, std::type_identity_t<Params>... args) {
    on_every_schedule([&](Schedule schedule) {
        const cudaError_t status =
            launch(kernel, grid, kThreads, sizeof(Storage), nullptr, args...);
        CHECK_EQ(status, cudaSuccess, "%s: %s", name(schedule).c_str(), last_report().c_str());
        reset();
    });
}

DeviceBuffer<uint32_t> iota(size_t count) {
    std::vector<uint32_t> values(count);
    for (size_t i = 0; i < count; ++i)
        values[i] = uint32_t(i);
    return DeviceBuffer<uint32_t>(values);
}

// ---- Races on shared memory -------------------------------------------------------------------

// Neighbouring warps exchange words. Without the first barrier the reader may be early, without
// the second a fast warp overwrites what a slow one still reads.
template <bool kFirst, bool kSecond>
TARPON_KERNEL void exchange_kernel(uint32_t *out) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    st_shared(&storage.words[t], uint32_t(t));
    sync_threads();
    for (int round = 0; round < 3; ++round) {
        const uint32_t value = ld_shared(&storage.words[t ^ 32]);
        if constexpr (kSecond) sync_threads();
        st_shared(&storage.words[t], value + 1);
        if constexpr (kFirst) sync_threads();
    }
    st_global(&out[t], ld_shared(&storage.words[t]));
}

TARPON_TEST(test_sim_catches_missing_barrier_after_write) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"race: no barrier since another thread", "of 1024 bytes of shared memory",
            "exchange_kernel", "launched at violations_test.cu:", "128 threads"},
           exchange_kernel<false, true>, 1, out.data());
}

TARPON_TEST(test_sim_catches_missing_barrier_after_read) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"race: no barrier since another thread", "shared memory", "exchange_kernel"},
           exchange_kernel<true, false>, 1, out.data());
}

TARPON_TEST(test_sim_accepts_both_barriers) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect_clean(exchange_kernel<true, true>, 1, out.data());
    const auto values = out.to_host();
    for (int t = 0; t < int(kThreads); ++t)
        CHECK_EQ(values[size_t(t)], uint32_t(t ^ 32) + 3);
}

// The same between lanes of a warp, which a warp barrier would order and a shuffle does not.
template <bool kSync>
TARPON_KERNEL void lanes_kernel(uint32_t *out) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    st_shared(&storage.words[t], uint32_t(t));
    if constexpr (kSync) {
        sync_warp();
    } else {
        (void)shfl_xor(t, 1);
    }
    st_global(&out[t], ld_shared(&storage.words[t ^ 1]));
}

TARPON_TEST(test_sim_catches_missing_sync_warp) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"race: no barrier since another thread wrote, at byte",
            "ld_shared at violations_test.cu:", "wrote it at violations_test.cu:", "lanes_kernel"},
           lanes_kernel<false>, 1, out.data());
    expect_clean(lanes_kernel<true>, 1, out.data());
}

// A named barrier of warps 0 and 1 says nothing about warp 2.
template <int kReader>
TARPON_KERNEL void named_barrier_kernel(uint32_t *out) {
    auto &storage = shared_storage<Storage>();
    if (warp_id() == 0) st_shared(&storage.words[lane_id()], 1u);
    if (warp_id() < 2) named_barrier_sync(1, 64);
    if (warp_id() == 2 && kReader == 2) sync_warp();
    if (warp_id() == kReader) st_global(&out[lane_id()], ld_shared(&storage.words[lane_id()]));
}

TARPON_TEST(test_sim_knows_whom_a_named_barrier_orders) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect_clean(named_barrier_kernel<1>, 1, out.data());
    on_every_schedule([&](Schedule) {  // early: not written yet; late: a race
        const cudaError_t status =
            launch(named_barrier_kernel<2>, 1, kThreads, sizeof(Storage), nullptr, out.data());
        const bool early = last_report().find("uninitialised") == 0;
        expect_report(status, {early ? "uninitialised" : "race", "ld_shared"});
    });
}

// Clocks are finite: they start again at a sync_threads, and races are still found behind that.
template <bool kRace>
TARPON_KERNEL void many_barriers_kernel(uint32_t *out, int barriers) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    for (int i = 0; i < barriers; ++i) {
        if (i % 1000 == 0) st_shared(&storage.words[t], uint32_t(i));
        sync_threads();
        if (i % 1000 == 0) CHECK_EQ(ld_shared(&storage.words[t ^ 32]), uint32_t(i));
    }
    st_shared(&storage.words[t], 7u);
    if constexpr (!kRace) sync_threads();
    sync_warp();
    st_global(&out[t], ld_shared(&storage.words[t ^ 32]));
}

TARPON_KERNEL void only_warp_barriers_kernel(int barriers) {
    for (int i = 0; i < barriers; ++i)
        sync_warp();
}

TARPON_TEST(test_sim_clocks_start_again) {
    DeviceBuffer<uint32_t> out(64);
    constexpr int kBarriers = 150'000;  // more than half of the clock's range
    CHECK_EQ(
        launch(many_barriers_kernel<false>, 1, 64, sizeof(Storage), nullptr, out.data(), kBarriers),
        cudaSuccess);
    expect_report(
        launch(many_barriers_kernel<true>, 1, 64, sizeof(Storage), nullptr, out.data(), kBarriers),
        {"race: no barrier since another thread"});
    expect_report(launch(only_warp_barriers_kernel, 1, 32, 0, nullptr, 300'000),
                  {"with no sync_threads in between"});
}

// Neighbouring lanes store halves of one word: no race.
TARPON_KERNEL void halves_kernel(uint16_t *out) {
    auto &storage = shared_storage<Storage>();
    auto *halves = reinterpret_cast<uint16_t *>(storage.words);
    const int t = thread_idx();
    st_shared(&halves[t], uint16_t(t));
    st_shared(&halves[t], uint16_t(ld_shared(&halves[t]) + 1));
    sync_threads();
    st_global(&out[t], ld_shared(&halves[t]));
}

TARPON_TEST(test_sim_tells_halves_of_a_word_apart) {
    DeviceBuffer<uint16_t> out(kThreads);
    expect_clean(halves_kernel, 1, out.data());
}

// ---- Asynchronous copies ----------------------------------------------------------------------

enum class Copy { kRight, kNoWait, kTooFewWaited, kNoCommit, kNoBarrier, kOverwritten };

template <Copy kCase>
TARPON_KERNEL void copy_kernel(const uint32_t *in, uint32_t *out) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    cp_async<4>(&storage.words[t], in + t);
    if constexpr (kCase != Copy::kNoCommit) cp_async_commit();
    cp_async<4>(&storage.words[128 + t], in + t);
    cp_async_commit();
    if constexpr (kCase == Copy::kOverwritten) st_shared(&storage.words[t], 0u);
    if constexpr (kCase == Copy::kTooFewWaited) cp_async_wait<2>();
    if constexpr (kCase == Copy::kNoCommit) cp_async_wait<1>();
    if constexpr (kCase == Copy::kRight || kCase == Copy::kNoBarrier) cp_async_wait<1>();
    if constexpr (kCase != Copy::kNoBarrier) sync_threads();
    st_global(&out[t], ld_shared(&storage.words[t ^ 64]));
    cp_async_wait<0>();
}

TARPON_TEST(test_sim_catches_missing_copy_wait) {
    const auto in = iota(kThreads);
    DeviceBuffer<uint32_t> out(kThreads);
    const auto report = {"asynchronous copy still under way", "before its cp_async_wait",
                         "ld_shared", "copy_kernel"};
    expect(report, copy_kernel<Copy::kNoWait>, 1, in.data(), out.data());
    expect(report, copy_kernel<Copy::kTooFewWaited>, 1, in.data(), out.data());
    expect(report, copy_kernel<Copy::kNoCommit>, 1, in.data(), out.data());
}

TARPON_TEST(test_sim_catches_store_into_copy) {
    const auto in = iota(kThreads);
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"asynchronous copy still under way", "st_shared"}, copy_kernel<Copy::kOverwritten>, 1,
           in.data(), out.data());
}

TARPON_TEST(test_sim_catches_missing_barrier_after_copy) {
    const auto in = iota(kThreads);
    DeviceBuffer<uint32_t> out(kThreads);
    on_every_schedule([&](Schedule) {  // what is found depends on how far the copying warp is
        const cudaError_t status = launch(copy_kernel<Copy::kNoBarrier>, 1, kThreads,
                                          sizeof(Storage), nullptr, in.data(), out.data());
        expect_report(status, {"shared memory", "ld_shared", "copy_kernel"});
    });
}

TARPON_TEST(test_sim_accepts_copy_with_wait_and_barrier) {
    const auto in = iota(kThreads);
    DeviceBuffer<uint32_t> out(kThreads);
    expect_clean(copy_kernel<Copy::kRight>, 1, in.data(), out.data());
    CHECK_EQ(out.to_host()[3], 3u ^ 64u);
}

// ---- Bounds, alignment, initialisation --------------------------------------------------------

TARPON_KERNEL void global_load_kernel(const uint32_t *in, uint32_t *out, int offset) {
    st_global(&out[thread_idx()], ld_global(in + thread_idx() + offset));
}
TARPON_KERNEL void global_store_kernel(uint32_t *out, int offset) {
    st_global(out + thread_idx() + offset, 0u);
}
TARPON_KERNEL void global_copy_kernel(const uint32_t *in, int offset) {
    auto &storage = shared_storage<Storage>();
    cp_async<4>(&storage.words[thread_idx()], in + thread_idx() + offset);
    cp_async_commit();
    cp_async_wait<0>();
}

// The bare allocations, without the guards of DeviceBuffer.
struct Bare {
    explicit Bare(size_t bytes) { testing::check_cuda(cudaMalloc(&data, bytes), "cudaMalloc"); }
    ~Bare() { (void)cudaFree(data); }
    uint32_t *data = nullptr;
};

TARPON_TEST(test_sim_catches_global_out_of_bounds) {
    Bare in(4 * kThreads), out(4 * kThreads);
    (void)cudaMemset(in.data, 0, 4 * kThreads);
    expect_clean(global_load_kernel, 1, in.data, out.data, 0);
    expect({"out of bounds: an access of 4 bytes to global memory", "thread 127",
            "ld_global at violations_test.cu", "byte 512 of an allocation of 512 bytes"},
           global_load_kernel, 1, in.data, out.data, 1);
    expect({"out of bounds", "thread 0 ", "4 bytes before an allocation of 512 bytes"},
           global_load_kernel, 1, in.data, out.data, -1);
    expect({"out of bounds", "st_global", "thread 127", "byte 512 of an allocation"},
           global_store_kernel, 1, out.data, 1);
    expect({"out of bounds: a copy reads 4 bytes", "cp_async", "thread 127"}, global_copy_kernel, 1,
           in.data, 1);
    expect({"out of bounds", "the address is null"}, global_load_kernel, 1, nullptr, out.data, 0);
}

TARPON_TEST(test_sim_catches_use_after_free) {
    Bare out(4 * kThreads);
    uint32_t *in = nullptr;
    testing::check_cuda(cudaMalloc(&in, 4 * kThreads), "cudaMalloc");
    testing::check_cuda(cudaFree(in), "cudaFree");
    on_every_schedule([&](Schedule) {
        expect_report(
            launch(global_load_kernel, 1, kThreads, sizeof(Storage), nullptr, in, out.data, 0),
            {"out of bounds", "ld_global"});
    });
}

TARPON_TEST(test_sim_catches_host_pointer) {
    Bare out(4 * kThreads);
    std::vector<uint32_t> in(kThreads);
    expect({"out of bounds", "in no allocation of the device"}, global_load_kernel, 1, in.data(),
           out.data, 0);
}

TARPON_KERNEL void misaligned_kernel(const uint8_t *in, uint32_t *out) {
    const auto *address = reinterpret_cast<const uint32_t *>(in + 2);
    st_global(&out[thread_idx()], ld_global(address));
}

TARPON_TEST(test_sim_catches_misaligned_access) {
    const auto in = iota(64);
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"misaligned: an access of 4 bytes"}, misaligned_kernel, 1,
           reinterpret_cast<const uint8_t *>(in.data()), out.data());
}

TARPON_TEST(test_sim_catches_uninitialised_global) {
    Bare in(4 * kThreads), out(4 * kThreads);
    (void)cudaMemset(in.data, 0, 4 * kThreads - 4);
    expect({"uninitialised: a read of global memory nobody has written", "thread 127",
            "byte 508 of an allocation of 512 bytes"},
           global_load_kernel, 1, in.data, out.data, 0);
    expect({"uninitialised", "cp_async"}, global_copy_kernel, 1, in.data, 0);
}

TARPON_KERNEL void shared_load_kernel(uint32_t *out, int offset) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    st_shared(&storage.words[t], 1u);
    sync_threads();
    st_global(&out[t], ld_shared(storage.words + t + offset));
}

TARPON_TEST(test_sim_catches_shared_out_of_bounds) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect_clean(shared_load_kernel, 1, out.data(), 0);
    expect({"out of bounds: an access of 4 bytes at byte 1", "of 1024 bytes of shared memory",
            "ld_shared"},
           shared_load_kernel, 1, out.data(), 256);
    expect({"out of bounds", "at byte -4 of"}, shared_load_kernel, 1, out.data(), -1);
}

TARPON_TEST(test_sim_catches_uninitialised_shared) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect({"uninitialised: a read of what nobody has written, at byte 512", "thread 127"},
           shared_load_kernel, 1, out.data(), 1);
}

// A plain dereference is invisible, but its result is NaN where it reads what is not there.
TARPON_KERNEL void plain_kernel(float *out) {
    auto &storage = shared_storage<Storage>();
    const auto *floats = reinterpret_cast<const float *>(storage.words);
    st_global(&out[thread_idx()], floats[thread_idx()]);
}

TARPON_TEST(test_sim_poisons_shared_memory) {
    DeviceBuffer<float> out(kThreads);
    expect_clean(plain_kernel, 1, out.data());
    for (float value : out.to_host())
        CHECK(value != value);
}

TARPON_KERNEL void plain_store_kernel(uint32_t *out) {
    if (thread_idx() == 0) out[kThreads] = 0;
}

TARPON_TEST(test_sim_catches_plain_store_behind_an_allocation) {
    on_every_schedule([&](Schedule) {
        Bare out(4 * kThreads);
        expect_report(launch(plain_store_kernel, 1, kThreads, sizeof(Storage), nullptr, out.data),
                      {"out of bounds: the bytes behind an allocation of 512 bytes"});
    });
}

TARPON_KERNEL void ldmatrix_kernel(uint32_t *out, int rows) {
    auto &storage = shared_storage<Storage>();
    const int t = thread_idx();
    for (int i = t; i < 4 * rows; i += block_dim())
        st_shared(&storage.words[i], 0u);
    sync_threads();
    uint32_t regs[4];
    ldmatrix_x4(regs, &storage.words[4 * lane_id()]);
    st_global(&out[t], regs[0]);
}

TARPON_TEST(test_sim_catches_uninitialised_ldmatrix_row) {
    DeviceBuffer<uint32_t> out(kThreads);
    expect_clean(ldmatrix_kernel, 1, out.data(), 32);
    expect({"uninitialised", "ldmatrix, row 5 of matrix 3 (the address of lane 29)"},
           ldmatrix_kernel, 1, out.data(), 29);
}

// ---- Divergence -------------------------------------------------------------------------------

TARPON_KERNEL void divergent_barrier_kernel() {
    if (warp_id() < 2) {
        sync_threads();
    } else {
        sync_threads();
    }
}
TARPON_KERNEL void divergent_lanes_kernel() {
    if (lane_id() < 16) sync_threads();
    sync_warp();
}
TARPON_KERNEL void divergent_shuffle_kernel(int *out) {
    int value = lane_id();
    if (lane_id() % 2) value = shfl_xor(value, 1);
    st_global(&out[thread_idx()], value);
}
TARPON_KERNEL void early_exit_kernel() {
    if (warp_id() == 1) return;
    sync_threads();
}
TARPON_KERNEL void early_lane_exit_kernel() {
    if (lane_id() == 7) return;
    (void)ballot(true);
}

TARPON_TEST(test_sim_catches_divergent_barrier) {
    expect({"barrier divergence: threads of a block are at different sync_threads", "waits in"},
           divergent_barrier_kernel, 1);
    expect({"warp divergence: lanes of one warp are at different operations", "sync_threads",
            "sync_warp"},
           divergent_lanes_kernel, 1);
}

TARPON_TEST(test_sim_catches_divergent_shuffle) {
    DeviceBuffer<int> out(kThreads);
    expect({"exit divergence", "shfl_xor"}, divergent_shuffle_kernel, 1, out.data());
}

TARPON_TEST(test_sim_catches_exit_before_barrier) {
    expect({"exit divergence", "sync_threads"}, early_exit_kernel, 1);
    expect({"exit divergence", "ballot"}, early_lane_exit_kernel, 1);
}

enum class Named { kDifferentIds, kDifferentCounts, kBadId, kBadCount, kTwice };

template <Named kCase>
TARPON_KERNEL void bad_named_barrier_kernel() {
    if (kCase == Named::kDifferentIds) named_barrier_sync(1 + lane_id() % 2, 32);
    if (kCase == Named::kDifferentCounts) named_barrier_sync(1, warp_id() == 0 ? 128 : 64);
    if (kCase == Named::kBadId) named_barrier_sync(16, 128);
    if (kCase == Named::kBadCount) named_barrier_sync(1, 100);
    if (kCase == Named::kTwice && warp_id() == 0) {
        named_barrier_arrive(1, 64);
        named_barrier_arrive(1, 64);
    }
}

TARPON_TEST(test_sim_catches_bad_named_barriers) {
    expect({"lanes of one warp name different barriers", "barrier 2"},
           bad_named_barrier_kernel<Named::kDifferentIds>, 1);
    expect({"64", "128", "threads at barrier 1"}, bad_named_barrier_kernel<Named::kDifferentCounts>,
           1);
    expect({"barrier 16 is outside 1..15"}, bad_named_barrier_kernel<Named::kBadId>, 1);
    expect({"100 threads at a barrier"}, bad_named_barrier_kernel<Named::kBadCount>, 1);
    expect({"arrives again at barrier 1"}, bad_named_barrier_kernel<Named::kTwice>, 1);
}

TARPON_KERNEL void bad_metadata_kernel(float *out) {
    float d[4] = {};
    const uint32_t zeros[4] = {};
    // 0x4 is columns 0 and 1; lane 13 says 1 and 0 for one chunk.
    mma_sp_m16n8k32<half_t, 0>(d, zeros, zeros, lane_id() == 13 ? 0x44444144u : 0x44444444u);
    st_global(&out[thread_idx()], d[0]);
}

TARPON_TEST(test_sim_catches_unordered_metadata) {
    DeviceBuffer<float> out(kThreads);
    expect({"the metadata of a chunk names columns 1 and 0", "row 3, chunk 6", "lane 13"},
           bad_metadata_kernel, 1, out.data());
}

// ---- Deadlock ---------------------------------------------------------------------------------

TARPON_KERNEL void wait_forever_kernel(const int32_t *flag) {
    if (thread_idx() == 0) {
        while (ld_acquire(flag) == 0) {
        }
    }
    sync_threads();
}
TARPON_KERNEL void lonely_barrier_kernel() {
    if (warp_id() == 2) named_barrier_sync(4, 64);
}
// Every block waits until all have arrived, which needs all of them on the device at once.
TARPON_KERNEL void grid_barrier_kernel(int32_t *arrived) {
    if (thread_idx() != 0) return;
    red_release_add(arrived, 1);
    while (ld_acquire(arrived) < grid_dim()) {
    }
}

TARPON_TEST(test_sim_reports_deadlock) {
    const DeviceBuffer<int32_t> flag(std::vector<int32_t>{0});
    expect(
        {"deadlock: no thread can go on",
         "block (1, 0, 0) thread 0 (warp 0, lane 0) waits in ld_acquire at violations_test.cu:",
         "where it keeps finding 0",
         "block (0, 0, 0) thread 1 (warp 0, lane 1) waits in sync_threads", "and 126 more threads"},
        wait_forever_kernel, 2, flag.data());
    expect({"deadlock", "thread 64 (warp 2, lane 0) waits in named barrier"}, lonely_barrier_kernel,
           1);
}

TARPON_TEST(test_sim_knows_how_many_blocks_fit) {
    set_processor_count(2);
    // 128 threads and 1 KiB: 16 blocks of 2048 threads a multiprocessor, 32 in all.
    const auto run = [](int grid) {
        const DeviceBuffer<int32_t> arrived(std::vector<int32_t>{0});
        return launch(grid_barrier_kernel, grid, kThreads, sizeof(Storage), nullptr,
                      arrived.data());
    };
    on_every_schedule([&](Schedule) {
        CHECK_EQ(run(32), cudaSuccess);
        expect_report(run(33), {"deadlock", "1 of 33 blocks have not started",
                                "only 32 fit on the device at once"});
    });
    set_processor_count(6);
}

// ---- Launches that do not start ---------------------------------------------------------------

TARPON_KERNEL void empty_kernel() {}
TARPON_KERNEL void greedy_kernel() {
    (void)shared_storage<Storage>();
}

TARPON_TEST(test_sim_refuses_impossible_launches) {
    CHECK_EQ(launch(empty_kernel, 0, 32, 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_EQ(launch(empty_kernel, 1, 0, 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_EQ(launch(empty_kernel, 1, 33, 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_EQ(launch(empty_kernel, 1, 1056, 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_EQ(launch(empty_kernel, 1, 32, 48 * 1024 + 1, nullptr), cudaErrorInvalidValue);
    CHECK_EQ(cudaGetLastError(), cudaErrorInvalidValue);
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
    CHECK_EQ(launch(empty_kernel, 1, 1024, 48 * 1024, nullptr), cudaSuccess);
    expect_report(launch(greedy_kernel, 1, 32, sizeof(Storage) - 1, nullptr),
                  {"out of bounds: the kernel's shared storage has 1024 bytes, the launch gave it "
                   "1023"});
}

struct Limit {
    int arch;
    int optin_kib;
};

TARPON_TEST(test_sim_knows_shared_memory_of_architectures) {
    for (const Limit &limit : {Limit{80, 163}, Limit{86, 99}, Limit{89, 99}, Limit{90, 227},
                               Limit{100, 227}, Limit{120, 99}}) {
        set_arch(limit.arch);
        const size_t most = size_t(limit.optin_kib) * 1024;
        CHECK_EQ(prepare(empty_kernel, most), cudaSuccess, "sm_%d", limit.arch);
        CHECK_EQ(launch(empty_kernel, 1, 32, most, nullptr), cudaSuccess, "sm_%d", limit.arch);
        CHECK_EQ(prepare(empty_kernel, most + 1), cudaErrorInvalidValue, "sm_%d", limit.arch);
        int blocks = 0;
        CHECK_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty_kernel, 32, most),
                 cudaSuccess);
        CHECK_EQ(blocks, 1, "sm_%d", limit.arch);
    }
    set_arch(80);
    (void)cudaGetLastError();
}

}  // namespace
}  // namespace tarpon::sim_tests
