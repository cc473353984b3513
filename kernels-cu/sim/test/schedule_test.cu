// What a kernel computes must not depend on the order in which its threads and blocks run, and the
// order must be reproducible. Run alone: schedule_test.
#include <algorithm>
#include <vector>

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "sim/test/sim_testing.h"
#include "testing/device_buffer.h"

namespace tarpon::sim_tests {
namespace {

using namespace tarpon::ptx;
using testing::DeviceBuffer;

// The order in which threads take tickets is the schedule itself.
TARPON_KERNEL void ticket_kernel(int32_t *next, int32_t *tickets) {
    const int id = block_idx() * block_dim() + thread_idx();
    st_global(&tickets[id], atomic_add(next, 1));
}

std::vector<int32_t> tickets() {
    const DeviceBuffer<int32_t> next(std::vector<int32_t>{0});
    const DeviceBuffer<int32_t> out(192);
    testing::check_cuda(launch(ticket_kernel, 3, 64, 0, nullptr, next.data(), out.data()),
                        "ticket_kernel");
    return out.to_host();
}

TARPON_TEST(test_sim_schedules_differ_and_repeat) {
    std::vector<std::vector<int32_t>> seen;
    on_every_schedule([&](Schedule schedule) {
        const auto first = tickets();
        CHECK(first == tickets(), "%s is not reproducible", name(schedule).c_str());
        auto sorted = first;
        std::sort(sorted.begin(), sorted.end());
        for (int i = 0; i < 192; ++i)
            CHECK_EQ(sorted[size_t(i)], i, "ticket");
        CHECK(std::find(seen.begin(), seen.end(), first) == seen.end(), "%s is not new",
              name(schedule).c_str());
        seen.push_back(first);
    });
    CHECK(std::is_sorted(seen[0].begin(), seen[0].end()), "forward");
    CHECK(std::is_sorted(seen[1].rbegin(), seen[1].rend()), "reverse");
}

// A block's sum by shuffles and shared memory, passed on from block to block in a fixed order: a
// floating-point result that any other order of additions would change.
struct SumStorage {
    float partial[4];
};

TARPON_KERNEL void chained_sum_kernel(const float *in, float *sums, int32_t *turn) {
    auto &storage = shared_storage<SumStorage>();
    float value = ld_global(&in[block_idx() * block_dim() + thread_idx()]);
    for (int step = 16; step > 0; step /= 2)
        value += shfl_xor(value, step);
    if (lane_id() == 0) st_shared(&storage.partial[warp_id()], value);
    sync_threads();
    if (thread_idx() != 0) return;
    float sum = 0;
    for (int warp = 0; warp < 4; ++warp)
        sum += ld_shared(&storage.partial[warp]);
    while (ld_acquire(turn) != block_idx()) {
    }
    if (block_idx() > 0) sum += ld_global(&sums[block_idx() - 1]);
    st_global(&sums[block_idx()], sum);
    st_release(turn, block_idx() + 1 == grid_dim() ? 0 : block_idx() + 1);
}

TARPON_TEST(test_sim_results_do_not_depend_on_schedule) {
    constexpr int kBlocks = 20, kThreads = 128;
    std::vector<float> in(kBlocks * kThreads);
    for (size_t i = 0; i < in.size(); ++i)
        in[i] = 1.0f / float(i + 1);
    const DeviceBuffer<float> device_in(in);
    std::vector<float> expected;
    on_every_schedule([&](Schedule schedule) {
        const DeviceBuffer<int32_t> turn(std::vector<int32_t>{0});
        const DeviceBuffer<float> sums(kBlocks);
        testing::check_cuda(launch(chained_sum_kernel, kBlocks, kThreads, sizeof(SumStorage),
                                   nullptr, device_in.data(), sums.data(), turn.data()),
                            "chained_sum_kernel");
        const auto values = sums.to_host();
        if (expected.empty()) expected = values;
        for (size_t i = 0; i < values.size(); ++i) {
            CHECK_EQ(values[i], expected[i], "%s, block %zu", name(schedule).c_str(), i);
        }
    });
    CHECK_NEAR(expected.back(), 8.4258, 1e-3);  // the 2560th harmonic number: ln 2560 + 0.5774
}

// Bounded polling is not a deadlock: the block gives up and says so.
TARPON_KERNEL void impatient_kernel(const int32_t *flag, int32_t *outcome) {
    if (thread_idx() != 0) return;
    int tries = 0;
    while (ld_acquire(flag) == 0 && tries < 10)
        ++tries;
    st_global(outcome, tries);
}

TARPON_TEST(test_sim_lets_bounded_polling_end) {
    const DeviceBuffer<int32_t> flag(std::vector<int32_t>{0});
    on_every_schedule([&](Schedule) {
        const DeviceBuffer<int32_t> outcome(1);
        testing::check_cuda(
            launch(impatient_kernel, 1, 32, 0, nullptr, flag.data(), outcome.data()),
            "impatient_kernel");
        CHECK_EQ(outcome.to_host()[0], 10);
    });
}

}  // namespace
}  // namespace tarpon::sim_tests
