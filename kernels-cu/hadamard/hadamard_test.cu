// The kernels against ref.h, bit for bit, on the simulator (in three schedules) or on a GPU. Alone:
//   ctest -R hadamard_kernel
#include <cmath>
#include <vector>

#include "hadamard/launch.h"
#include "hadamard/ref.h"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "testing/test.h"
#ifndef __CUDACC__
#include "sim/control.h"
#endif

namespace tarpon::hadamard {
namespace {

using namespace tarpon::testing;

template <class T>
const char *type_name() {
    return sizeof(T) == 4 ? "f32" : std::is_same_v<T, half_t> ? "f16" : "bf16";
}

template <class T>
cudaError_t run_on_device(const T *x, T *y, int64_t rows, int64_t n) {
    const Size size = decompose(n);
    return run(x, y, rows, size.base, size.power, float(1.0 / std::sqrt(double(n))), nullptr);
}

// `offset` elements before the data make it misaligned.
template <class T>
void check_against_reference(int64_t rows, int64_t n, int offset, bool in_place) {
    Random random(uint64_t(1000 * n + rows));
    std::vector<T> x(offset + rows * n);
    for (T &value : x)
        value = from_float<T>(float(random.normal()));
    DeviceBuffer<T> in(x), out(x.size());
    T *y = in_place ? in.data() : out.data();
    REQUIRE(run_on_device(in.data() + offset, y + offset, rows, n) == cudaSuccess, "%s n %lld",
            type_name<T>(), (long long)n);
    const std::vector<T> got = (in_place ? in : out).to_host();
    CHECK(in.guards_intact() && out.guards_intact(), "%s n %lld rows %lld", type_name<T>(),
          (long long)n, (long long)rows);
    for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> expected(n);
        for (int64_t i = 0; i < n; ++i)
            expected[i] = to_float(x[offset + r * n + i]);
        transform_reference(expected.data(), n);
        for (int64_t i = 0; i < n; ++i) {
            if (!CHECK_EQ(to_float(got[offset + r * n + i]), to_float(from_float<T>(expected[i])),
                          "%s n %lld of %lld rows, y[%lld, %lld]", type_name<T>(), (long long)n,
                          (long long)rows, (long long)r, (long long)i)) {
                return;
            }
        }
    }
}

template <class T>
void check_sizes() {
    require_device();
    REQUIRE(prepare_device() == cudaSuccess);
    for (int64_t n = 2; n <= kMaxSize; ++n) {
        const Size size = decompose(n);
        // Of the sizes with a base matrix those of head dimensions and one of each pass count.
        if (size.base == 0 || (size.base > 1 && n > 28 * 64)) continue;
        const int64_t rows = n <= 256 ? 5 + 600 / n : 2;
        check_against_reference<T>(rows, n, 0, false);
    }
}

TARPON_TEST(test_hadamard_f32_equals_reference) {
    check_sizes<float>();
}
TARPON_TEST(test_hadamard_f16_equals_reference) {
    check_sizes<half_t>();
}
TARPON_TEST(test_hadamard_bf16_equals_reference) {
    check_sizes<bf16_t>();
}

TARPON_TEST(test_hadamard_in_place_and_misaligned) {
    require_device();
    REQUIRE(prepare_device() == cudaSuccess);
    for (int64_t n : {2, 4, 8, 16, 96, 128, 256, 512, 2048, 4096, 16384}) {
        check_against_reference<half_t>(3, n, 0, true);
        check_against_reference<half_t>(3, n, 1, false);
        check_against_reference<float>(3, n, 1, true);
    }
}

TARPON_TEST(test_hadamard_largest_base_size_fits_or_says_so) {
    require_device();
    REQUIRE(prepare_device() == cudaSuccess);
    int device = 0, most_bytes = 0;
    REQUIRE(cudaGetDevice(&device) == cudaSuccess);
    REQUIRE(cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
            cudaSuccess);
    for (int64_t n : {12 * 2048, 20 * 1024, 28 * 1024}) {
        const Size size = decompose(n);
        if (shared_bytes(size.base, size.power) > most_bytes) continue;
        check_against_reference<half_t>(1, n, 0, false);
    }
    CHECK(shared_bytes(12, 2048) <= 99 * 1024, "12 * 2048 is meant to fit on every architecture");
}

#ifndef __CUDACC__
TARPON_TEST(test_hadamard_does_not_depend_on_the_schedule) {
    using Order = sim::Schedule::Order;
    for (sim::Schedule schedule :
         {sim::Schedule{Order::kReverse, 0}, sim::Schedule{Order::kRandom, 7},
          sim::Schedule{Order::kRandom, 8}}) {
        sim::set_schedule(schedule);
        for (int64_t n : {64, 96, 512, 2048, 8192, 32768})
            check_against_reference<half_t>(2, n, 0, true);
    }
    sim::set_schedule({});
}
#endif

}  // namespace
}  // namespace tarpon::hadamard
