// The CPU's linear layer against binary64, on every instruction set of this processor in turn;
// those it lacks are skipped and named. Run alone: cpu_linear_test [part of a test's name].
#include <atomic>
#include <limits>
#include <new>
#include <thread>

#include "cpu_linear_support.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Counts what a plan might allocate in run().
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

constexpr int64_t kRows[] = {1,  2,  3,  4,  7,  8,  9,   15,  16, 17,
                             31, 32, 33, 63, 64, 65, 100, 128, 129};
constexpr struct {
    int64_t n, k;
} kShapes[] = {{64, 64},   {96, 128},  {128, 96}, {200, 200}, {384, 1536}, {1536, 384},
               {1000, 64}, {64, 1000}, {1, 1},    {5, 7},     {33, 129},   {16, 1021}};

void check_against_binary64(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    for (const auto &shape : kShapes) {
        for (tarpon_dtype dtype : kDtypes) {
            for (int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, kPerChannel}) {
                // The largest shapes would add only time.
                if ((group == 32 || group == 64) && shape.n * shape.k > 100000) continue;
                const Layer layer(129, shape.n, shape.k, group, dtype, false);
                const auto plan = make_plan(*device, layer, arithmetic);
                for (int64_t m : kRows)
                    check_run(layer, *plan, m, arithmetic);
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_matches_binary64, check_against_binary64, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_matches_binary64, check_against_binary64, kInt8)

void check_exact_on_integers(Isa isa) {
    const auto device = open(isa, 2);
    for (tarpon_dtype dtype : kDtypes) {
        const Layer layer(129, 200, 392,
                          dtype == TARPON_F32   ? kPerChannel
                          : dtype == TARPON_F16 ? 32
                                                : 128,
                          dtype, true);
        const auto plan = make_plan(*device, layer);
        for (int64_t m : kRows)
            check_bits(layer, *plan, m);
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_is_exact_on_integers, check_exact_on_integers)

// Infinities and NaN of x reach y as in any sum; with int8 activations they make it NaN.
void check_non_finite(Isa isa, tarpon_linear_arithmetic arithmetic) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    const auto device = open(isa, 1);
    for (tarpon_dtype dtype : kDtypes) {
        Layer layer(1, 40, 136, 128, dtype, true);
        for (uint8_t &code : layer.codes)
            code = 12;
        const auto plan = make_plan(*device, layer, arithmetic);
        for (float value : {kInf, -kInf, std::nanf("")}) {
            Layer special = layer;
            store(special.x.data(), 77, dtype, value);
            const Run run(*plan, special, 1);
            const bool nan = std::isnan(value) || arithmetic == kInt8;
            for (size_t i = 0; i < run.count(); ++i) {
                CHECK(nan ? std::isnan(run.at(i)) : run.at(i) == value,
                      "%s: x[77] = %g gives y[%zu] = %g", dtype_name(dtype), double{value}, i,
                      run.at(i));
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_passes_on_infinity_and_nan, check_non_finite, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_answers_infinity_with_nan, check_non_finite, kInt8)

// Every finite binary16 times 1: subnormals, the largest, those that two bfloat16 must share.
void check_every_binary16(Isa isa) {
    const auto device = open(isa, 1);
    Layer layer(1, 16, 8, 128, TARPON_F16, true);
    for (uint8_t &code : layer.codes)
        code = 9;  // weight 1 * scale
    for (int64_t i = 0; i < 16; ++i)
        store(layer.scales.data(), i, TARPON_F16, 1.0f);
    std::fill(layer.x.begin(), layer.x.end(), uint8_t{0});
    const auto plan = make_plan(*device, layer);
    for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
        store(layer.x.data(), 3, TARPON_F16, to_float(half_t{static_cast<uint16_t>(bits)}));
        const Run run(*plan, layer, 1);
        uint16_t got;
        std::memcpy(&got, run.y(), sizeof got);
        CHECK_EQ(uint32_t{got}, bits);
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_keeps_every_bit_of_binary16, check_every_binary16)

// All int8 kernels round the same inputs to the same integers, whose sums are exact: only the
// roundings of scaling and adding differ.
void check_int8_agrees_with_scalar(Isa isa) {
    require(isa);
    const auto scalar = open(Isa::kScalar, 2), other = open(isa, 2);
    Layer layer(33, 200, 1000, 128, TARPON_F32, false);
    // Steps with an outlier, of tiny values, and of zeros.
    auto *x = reinterpret_cast<float *>(layer.x.data());
    x[5] = 1e30f;
    for (int i = 128; i < 256; ++i)
        x[i] *= 1e-36f;
    for (int i = 256; i < 384; ++i)
        x[i] = 0.0f;
    const Run a(*make_plan(*scalar, layer, kInt8), layer, 33);
    const Run b(*make_plan(*other, layer, kInt8), layer, 33);
    for (size_t i = 0; i < a.count(); ++i) {
        // Two roundings for each of the 8 groups, and their sum's. (The reference knows nothing of
        // the outlier, which is nearly all of its row.)
        const double sum = layer.magnitude[i] + layer.int8_error[i] + std::fabs(a.at(i));
        const double tolerance = 24 * 0x1p-24 * sum;
        CHECK_NEAR(b.at(i), a.at(i), tolerance, "y[%zu]", i);
    }
}
TARPON_TEST(test_cpu_linear_int8_scalar_and_avx2_agree) {
    check_int8_agrees_with_scalar(Isa::kAvx2);
}
TARPON_TEST(test_cpu_linear_int8_scalar_and_avx512_vnni_agree) {
    check_int8_agrees_with_scalar(Isa::kAvx512Vnni);
}

// More threads cut narrower panels, too.
void check_thread_counts(Isa isa) {
    const Layer layer(33, 1000, 384, 128, TARPON_BF16, false);
    for (int64_t m : {1, 2, 33}) {
        std::vector<unsigned char> first;
        for (int threads : {1, 2, 3, 16}) {
            const auto device = open(isa, threads);
            const Run run(*make_plan(*device, layer), layer, m);
            if (first.empty()) first.assign(run.y(), run.y() + run.bytes());
            CHECK(std::memcmp(first.data(), run.y(), run.bytes()) == 0, "m=%lld, %d threads",
                  static_cast<long long>(m), threads);
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_ignores_thread_count, check_thread_counts)

void check_allocates_nothing(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    Format format;
    format.zero = TARPON_ZERO_INTEGER;
    format.bias = format.residual = format.permuted = true;
    const Layer layer(80, 200, 392, 32, TARPON_F16, false, format);
    const auto plan = make_plan(*device, layer, arithmetic);
    std::vector<uint16_t> y(static_cast<size_t>(80 * layer.n));
    const size_t bytes = plan->workspace_bytes(80);
    const std::unique_ptr<void, decltype(&std::free)> workspace(
        std::aligned_alloc(256, (bytes + 255) / 256 * 256), &std::free);
    const int64_t before = allocations.load();
    for (int64_t m : {1, 2, 7, 80}) {
        const LinearArgs args{layer.x.data(),       y.data(), m, workspace.get(), bytes, nullptr,
                              layer.residual.data()};
        CHECK_EQ(plan->run(args), TARPON_OK);
        CHECK_EQ(allocations.load(), before, "m=%lld", static_cast<long long>(m));
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_run_allocates_nothing, check_allocates_nothing, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_run_allocates_nothing, check_allocates_nothing,
                          kInt8)

TARPON_TEST(test_cpu_linear_runs_concurrently) {
    const Layer layer(17, 384, 384, 128, TARPON_F16, false);
    const auto device = open(Isa::kScalar, 2);
    const auto plan = make_plan(*device, layer);
    const Run alone(*plan, layer, 17);
    std::vector<std::thread> callers;
    std::atomic<int> different{0};
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([&] {
            for (int repeat = 0; repeat < 5; ++repeat) {
                const Run run(*plan, layer, 17);
                if (std::memcmp(run.y(), alone.y(), run.bytes()) != 0) ++different;
            }
        });
    }
    for (std::thread &caller : callers)
        caller.join();
    CHECK_EQ(different.load(), 0, "of 20 runs on 4 threads");
}

TARPON_TEST(test_cpu_linear_checks_m_and_workspace) {
    const Layer layer(1, 64, 4096, 128, TARPON_F32, false);
    const auto device = open(Isa::kScalar, 1);
    const auto plan = make_plan(*device, layer);
    float y = 7.0f;
    CHECK_EQ(plan->run({layer.x.data(), &y, -1, nullptr, 0, nullptr}),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(last_error(), "m is -1"), "%s", last_error());
    CHECK_EQ(plan->run({nullptr, nullptr, 0, nullptr, 0, nullptr}), TARPON_OK);
    CHECK_EQ(plan->run({layer.x.data(), &y, 64, nullptr, 0, nullptr}),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(last_error(), "workspace is"), "%s", last_error());
    CHECK_EQ(y, 7.0f, "after refused runs");
    size_t before = 0;
    for (int64_t m : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{100},
                      int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
        const size_t bytes = plan->workspace_bytes(m);
        CHECK(bytes >= before, "m = %lld", static_cast<long long>(m));
        before = bytes;
    }
    CHECK_EQ(plan->workspace_bytes(1), size_t{0}, "one row of 4096 inputs");
}

template <class Action>
std::string error_of(Action action) {
    try {
        action();
    } catch (const Error &error) {
        return error.what();
    }
    return "";
}

TARPON_TEST(test_cpu_device_names_the_isas_it_has) {
    setenv("TARPON_CPU_ISA", "sse9", 1);
    const std::string unknown = error_of([] { choose_isa(); });
    CHECK(unknown.find("sse9") != std::string::npos, "%s", unknown.c_str());
    CHECK(unknown.find("scalar") != std::string::npos, "%s", unknown.c_str());
    for (Isa isa : kAllIsas) {
        setenv("TARPON_CPU_ISA", isa_name(isa), 1);
        const std::string message = error_of([] { choose_isa(); });
        CHECK_EQ(message.empty(), isa_supported(isa), "%s: %s", isa_name(isa), message.c_str());
    }
    unsetenv("TARPON_CPU_ISA");
    CHECK(isa_supported(choose_isa()));
}

TARPON_TEST(test_cpu_device_refuses_ordinals_and_thread_counts) {
    setenv("TARPON_CPU_ISA", "scalar", 1);
    const auto open_with = [](int ordinal, int threads) {
        return error_of([&] {
            cpu_backend().open(ordinal, {sizeof(tarpon_device_options), threads});
        });
    };
    CHECK(open_with(1, 0).find("cpu:1") != std::string::npos);
    CHECK(open_with(0, -3).find("-3") != std::string::npos);
    CHECK(open_with(0, 1 << 20).find("1048576") != std::string::npos);
}

TARPON_TEST(test_cpu_device_describes_itself) {
    const auto device = open(Isa::kScalar, 3);
    tarpon_device_info info{};
    info.struct_size = sizeof info;
    device->info(info);
    CHECK_EQ(info.processor_count, 3);
    CHECK_EQ(std::string(info.isa), "scalar");
    CHECK(info.name[0] != 0 && info.name[0] != ' ', "name is \"%s\"", info.name);
    CHECK(info.memory_bytes > (64u << 20), "%llu",
          static_cast<unsigned long long>(info.memory_bytes));
}

}  // namespace
}  // namespace tarpon::cpu
