// The CPU's linear layer against binary64, on every instruction set of this processor in turn;
// those it lacks are skipped and named. Run alone: cpu_linear_test [part of a test's name].
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/device.h"
#include "cpu/linear.h"
#include "testing/test.h"

namespace tarpon::cpu {
namespace {

// One test for each instruction set: X(suffix of its name, Isa).
#define TARPON_FOR_EACH_ISA(X)  \
    X(scalar, kScalar)          \
    X(avx2, kAvx2)              \
    X(avx512, kAvx512)          \
    X(avx512_vnni, kAvx512Vnni) \
    X(avx512_bf16, kAvx512Bf16)

constexpr Isa kAllIsas[] = {
#define X(name, isa) Isa::isa,
    TARPON_FOR_EACH_ISA(X)
#undef X
};
static_assert(std::size(kAllIsas) == kIsaCount);

constexpr tarpon_linear_arithmetic kExact = TARPON_ARITHMETIC_EXACT;
constexpr tarpon_linear_arithmetic kInt8 = TARPON_ARITHMETIC_INT8_ACTIVATIONS;

void require(Isa isa) {
    if (!isa_supported(isa)) SKIP("needs %s", isa_needs(isa));
}
constexpr tarpon_dtype kDtypes[] = {TARPON_F32, TARPON_F16, TARPON_BF16};

const char *dtype_name(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? "F32" : dtype == TARPON_F16 ? "F16" : "BF16";
}

size_t elem_bytes(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 4 : 2;
}

float load(const void *p, int64_t i, tarpon_dtype dtype) {
    if (dtype == TARPON_F32) return static_cast<const float *>(p)[i];
    const uint16_t bits = static_cast<const uint16_t *>(p)[i];
    return dtype == TARPON_F16 ? to_float(half_t{bits}) : to_float(bf16_t{bits});
}

void store(void *p, int64_t i, tarpon_dtype dtype, float value) {
    if (dtype == TARPON_F32) {
        static_cast<float *>(p)[i] = value;
    } else if (dtype == TARPON_F16) {
        static_cast<uint16_t *>(p)[i] = from_float<half_t>(value).bits;
    } else {
        static_cast<uint16_t *>(p)[i] = from_float<bf16_t>(value).bits;
    }
}

// Half a unit in the last place, relative: the error of rounding y to its type.
double output_rounding(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 0x1p-24 : dtype == TARPON_F16 ? 0x1p-11 : 0x1p-8;
}

constexpr int64_t kPerChannel = -1;

// A layer with random weights and inputs, and what it computes in binary64.
struct Layer {
    int64_t n, k, group_size, groups;
    tarpon_dtype dtype;
    std::vector<uint8_t> codes;
    std::vector<uint16_t> scales;
    std::vector<unsigned char> x;
    // [rows, n]: the sums of x*w and of |x*w|, and the most that int8 activations may be off.
    std::vector<double> y, magnitude, int8_error;

    // With `integers`, x is a small integer and every scale a power of two, so that every order of
    // summation in binary32 gives the exact result.
    Layer(int64_t rows, int64_t n_, int64_t k_, int64_t group, tarpon_dtype dtype_, bool integers)
        : n(n_),
          k(k_),
          group_size(group == kPerChannel ? k_ : group),
          groups((k_ + group_size - 1) / group_size),
          dtype(dtype_),
          codes(static_cast<size_t>(n_ * k_)),
          scales(static_cast<size_t>(groups * n_)),
          x(static_cast<size_t>(rows * k_) * elem_bytes(dtype_)),
          y(static_cast<size_t>(rows * n_)),
          magnitude(y.size()),
          int8_error(y.size()) {
        std::mt19937 random(static_cast<uint32_t>(1 + n * 31 + k * 7 + group_size));
        std::normal_distribution<float> normal;
        for (uint8_t &code : codes)
            code = static_cast<uint8_t>(random() % 16);
        for (uint16_t &scale : scales) {
            const float value = integers ? 1.0f / static_cast<float>(1 << random() % 3)
                                         : 0.002f + 0.03f * std::fabs(normal(random));
            scale = from_float<half_t>(value).bits;
        }
        for (int64_t i = 0; i < rows * k; ++i) {
            const float value =
                integers ? static_cast<float>(static_cast<int>(random() % 9) - 4) : normal(random);
            store(x.data(), i, dtype, value);
        }
        std::vector<double> weights(codes.size());
        for (int64_t i = 0; i < n * k; ++i) {
            const uint16_t scale = scales[static_cast<size_t>(i / n / group_size * n + i % n)];
            weights[static_cast<size_t>(i)] =
                (codes[static_cast<size_t>(i)] - 8) * double{to_float(half_t{scale})};
        }
        for (int64_t m = 0; m < rows; ++m) {
            double half_step = 0.0;  // of the int8 that 128 inputs are rounded to
            for (int64_t row = 0; row < k; ++row) {
                const double a = load(x.data(), m * k + row, dtype);
                if (row % 128 == 0) half_step = max_magnitude(m, row) / 127.0 / 2.0;
                for (int64_t column = 0; column < n; ++column) {
                    const double weight = weights[static_cast<size_t>(row * n + column)];
                    const auto i = static_cast<size_t>(m * n + column);
                    y[i] += a * weight;
                    magnitude[i] += std::fabs(a * weight);
                    int8_error[i] += half_step * std::fabs(weight);
                }
            }
        }
    }

    double max_magnitude(int64_t m, int64_t first) const {
        double max = 0.0;
        for (int64_t row = first; row < std::min(first + 128, k); ++row) {
            max = std::max(max, std::fabs(double{load(x.data(), m * k + row, dtype)}));
        }
        return max;
    }

    // Rounding to the output, and binary32 sums of at most 128 products of a group and then of the
    // groups (of every 128 inputs).
    double bound(size_t i, tarpon_linear_arithmetic arithmetic) const {
        const double additions = 128.0 + static_cast<double>(k) / 128.0 + 2.0;
        const double inputs = arithmetic == kInt8 ? int8_error[i] * 1.001 : 0.0;
        return output_rounding(dtype) * (std::fabs(y[i]) * 1.01 + inputs) + inputs +
               additions * 0x1p-24 * magnitude[i] + 0x1p-25;
    }
};

std::unique_ptr<Device> open(Isa isa, int threads) {
    setenv("TARPON_CPU_ISA", isa_name(isa), 1);
    tarpon_device_options options{};
    options.struct_size = sizeof options;
    options.thread_count = threads;
    return cpu_backend().open(0, options);
}

std::unique_ptr<LinearPlan> make_plan(Device &device, const Layer &layer,
                                      tarpon_linear_arithmetic arithmetic = kExact) {
    const LinearProblem problem{
        layer.n,     layer.k,   layer.group_size, layer.groups, TARPON_WEIGHT_INT4,
        layer.dtype, arithmetic};
    for (const LinearVariant &variant : device.linear_variants()) {
        if (!variant.supports(device, problem)) continue;
        return variant.create(device, problem, {layer.codes.data(), layer.scales.data()});
    }
    fail(TARPON_ERROR_INTERNAL, "no variant");
}

// y between two margins that must stay as they are; x one element into its allocation, after NaN;
// the workspace full of NaN.
class Run {
  public:
    Run(const LinearPlan &plan, const Layer &layer, int64_t m)
        : layer_(layer),
          m_(m),
          bytes_(static_cast<size_t>(m * layer.n) * elem_bytes(layer.dtype)),
          margin_(64 + elem_bytes(layer.dtype)) {  // y is aligned to its elements and no more
        const size_t elem = elem_bytes(layer.dtype);
        const size_t x_bytes = static_cast<size_t>(m * layer.k) * elem;
        std::vector<unsigned char> x(x_bytes + 2 * elem, 0xff);
        if (x_bytes > 0) std::memcpy(x.data() + elem, layer.x.data(), x_bytes);
        y_.assign(bytes_ + 2 * margin_, kGuard);
        const size_t workspace_bytes = plan.workspace_bytes(m);
        std::vector<unsigned char> workspace(workspace_bytes + 256 + margin_, 0xff);
        const size_t skew = reinterpret_cast<uintptr_t>(workspace.data()) % 256;
        unsigned char *aligned = workspace.data() + (256 - skew) % 256;
        status_ = plan.run({x.data() + elem, y_.data() + margin_, m,
                            workspace_bytes ? aligned : nullptr, workspace_bytes, nullptr});
        for (size_t i = 0; i < margin_; ++i) {
            clean_ = clean_ && y_[i] == kGuard && y_[margin_ + bytes_ + i] == kGuard &&
                     aligned[workspace_bytes + i] == 0xff;
        }
    }

    tarpon_status status() const { return status_; }
    bool nothing_outside() const { return clean_; }
    const unsigned char *y() const { return y_.data() + margin_; }
    double at(size_t i) const { return load(y(), static_cast<int64_t>(i), layer_.dtype); }
    size_t count() const { return static_cast<size_t>(m_ * layer_.n); }
    size_t bytes() const { return bytes_; }

  private:
    static constexpr unsigned char kGuard = 0xa5;
    const Layer &layer_;
    int64_t m_;
    size_t bytes_;
    size_t margin_;
    std::vector<unsigned char> y_;
    tarpon_status status_;
    bool clean_ = true;
};

std::string describe(const Layer &layer, int64_t m) {
    return testing::format("%s m=%lld n=%lld k=%lld group=%lld", dtype_name(layer.dtype),
                           static_cast<long long>(m), static_cast<long long>(layer.n),
                           static_cast<long long>(layer.k),
                           static_cast<long long>(layer.group_size));
}

// The mean of |error| over the mean of |y|: the bar of every device; and with int8 activations the
// error of rounding normally distributed inputs with 128 to a scale, 0.6%, and a margin.
double mean_error_limit(tarpon_dtype dtype, tarpon_linear_arithmetic arithmetic) {
    if (arithmetic == kInt8) return 9e-3;
    return dtype == TARPON_BF16 ? 2e-3 : 5e-4;
}

constexpr int64_t kRows[] = {1,  2,  3,  4,  7,  8,  9,   15,  16, 17,
                             31, 32, 33, 63, 64, 65, 100, 128, 129};
constexpr struct {
    int64_t n, k;
} kShapes[] = {{64, 64},   {96, 128},  {128, 96}, {200, 200}, {384, 1536}, {1536, 384},
               {1000, 64}, {64, 1000}, {1, 1},    {5, 7},     {33, 129},   {16, 1021}};

void check_run(const Layer &layer, const LinearPlan &plan, int64_t m,
               tarpon_linear_arithmetic arithmetic) {
    const Run run(plan, layer, m);
    const std::string what = describe(layer, m);
    CHECK_EQ(run.status(), TARPON_OK, "%s", what.c_str());
    CHECK(run.nothing_outside(), "%s", what.c_str());
    double error_sum = 0.0, y_sum = 0.0;
    for (size_t i = 0; i < run.count(); ++i) {
        const double error = std::fabs(run.at(i) - layer.y[i]);
        if (!(error <= layer.bound(i, arithmetic))) {
            CHECK_NEAR(run.at(i), layer.y[i], layer.bound(i, arithmetic), "%s row %zu column %zu",
                       what.c_str(), i / static_cast<size_t>(layer.n),
                       i % static_cast<size_t>(layer.n));
        }
        error_sum += error;
        y_sum += std::fabs(layer.y[i]);
    }
    // A mean needs a sample: a single bfloat16 may be 4e-3 off by its own rounding.
    if (run.count() < 1000) return;
    CHECK(error_sum <= mean_error_limit(layer.dtype, arithmetic) * y_sum,
          "%s: mean relative error %.3g", what.c_str(), error_sum / y_sum);
}

void check_against_binary64(Isa isa, tarpon_linear_arithmetic arithmetic) {
    require(isa);
    const auto device = open(isa, 2);
    for (const auto &shape : kShapes) {
        for (tarpon_dtype dtype : kDtypes) {
            for (int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, kPerChannel}) {
                const bool small = group == 32 || group == 64;
                // Int8 activations have groups of 128; the largest shapes would add only time.
                if (small && (arithmetic == kInt8 || shape.n * shape.k > 100000)) continue;
                const Layer layer(129, shape.n, shape.k, group, dtype, false);
                const auto plan = make_plan(*device, layer, arithmetic);
                for (int64_t m : kRows)
                    check_run(layer, *plan, m, arithmetic);
            }
        }
    }
}

#define X(name, isa)                                          \
    TARPON_TEST(test_cpu_linear_matches_binary64_on_##name) { \
        check_against_binary64(Isa::isa, kExact);             \
    }
TARPON_FOR_EACH_ISA(X)
#undef X

TARPON_TEST(test_cpu_linear_int8_matches_binary64_on_scalar) {
    check_against_binary64(Isa::kScalar, kInt8);
}
TARPON_TEST(test_cpu_linear_int8_matches_binary64_on_avx512_vnni) {
    check_against_binary64(Isa::kAvx512Vnni, kInt8);
}

void check_exact_on_integers(Isa isa) {
    require(isa);
    const auto device = open(isa, 2);
    for (tarpon_dtype dtype : kDtypes) {
        const Layer layer(129, 200, 392,
                          dtype == TARPON_F32   ? kPerChannel
                          : dtype == TARPON_F16 ? 32
                                                : 128,
                          dtype, true);
        std::vector<unsigned char> expected(layer.y.size() * elem_bytes(dtype));
        for (size_t i = 0; i < layer.y.size(); ++i) {
            // Exact in binary32; rounded once, to the type of y.
            store(expected.data(), static_cast<int64_t>(i), dtype, static_cast<float>(layer.y[i]));
        }
        const auto plan = make_plan(*device, layer);
        for (int64_t m : kRows) {
            const Run run(*plan, layer, m);
            CHECK(std::memcmp(run.y(), expected.data(), run.bytes()) == 0, "%s",
                  describe(layer, m).c_str());
        }
    }
}

#define X(name, isa)                                              \
    TARPON_TEST(test_cpu_linear_is_exact_on_integers_on_##name) { \
        check_exact_on_integers(Isa::isa);                        \
    }
TARPON_FOR_EACH_ISA(X)
#undef X

// Infinities and NaN of x reach y as in any sum; with int8 activations they make it NaN.
void check_non_finite(Isa isa, tarpon_linear_arithmetic arithmetic) {
    require(isa);
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

#define X(name, isa)                                                    \
    TARPON_TEST(test_cpu_linear_passes_on_infinity_and_nan_on_##name) { \
        check_non_finite(Isa::isa, kExact);                             \
    }
TARPON_FOR_EACH_ISA(X)
#undef X

TARPON_TEST(test_cpu_linear_int8_answers_infinity_with_nan_on_scalar) {
    check_non_finite(Isa::kScalar, kInt8);
}
TARPON_TEST(test_cpu_linear_int8_answers_infinity_with_nan_on_avx512_vnni) {
    check_non_finite(Isa::kAvx512Vnni, kInt8);
}

// Every finite binary16 times 1: subnormals, the largest, those that two bfloat16 must share.
void check_every_binary16(Isa isa) {
    require(isa);
    const auto device = open(isa, 1);
    Layer layer(1, 16, 8, 128, TARPON_F16, true);
    for (uint8_t &code : layer.codes)
        code = 9;  // weight 1 * scale
    for (uint16_t &scale : layer.scales)
        scale = from_float<half_t>(1.0f).bits;
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

#define X(name, isa)                                                     \
    TARPON_TEST(test_cpu_linear_keeps_every_bit_of_binary16_on_##name) { \
        check_every_binary16(Isa::isa);                                  \
    }
TARPON_FOR_EACH_ISA(X)
#undef X

// Both int8 kernels round the same inputs to the same integers, whose sums are exact: only the
// order of the two scales differs.
TARPON_TEST(test_cpu_linear_int8_scalar_and_avx512_vnni_agree) {
    require(Isa::kAvx512Vnni);
    const auto scalar = open(Isa::kScalar, 2), vnni = open(Isa::kAvx512Vnni, 2);
    Layer layer(33, 200, 1000, 128, TARPON_F32, false);
    // Steps with an outlier, of tiny values, and of zeros.
    auto *x = reinterpret_cast<float *>(layer.x.data());
    x[5] = 1e30f;
    for (int i = 128; i < 256; ++i)
        x[i] *= 1e-36f;
    for (int i = 256; i < 384; ++i)
        x[i] = 0.0f;
    const Run a(*make_plan(*scalar, layer, kInt8), layer, 33);
    const Run b(*make_plan(*vnni, layer, kInt8), layer, 33);
    for (size_t i = 0; i < a.count(); ++i) {
        // Two roundings for each of the 8 groups, and their sum's. (The reference knows nothing of
        // the outlier, which is nearly all of its row.)
        const double sum = layer.magnitude[i] + layer.int8_error[i] + std::fabs(a.at(i));
        const double tolerance = 24 * 0x1p-24 * sum;
        CHECK_NEAR(b.at(i), a.at(i), tolerance, "y[%zu]", i);
    }
}

void check_thread_counts(Isa isa) {
    require(isa);
    const Layer layer(33, 1000, 384, 128, TARPON_BF16, false);
    std::vector<unsigned char> first;
    for (int threads : {1, 2, 3, 8}) {
        const auto device = open(isa, threads);
        const Run run(*make_plan(*device, layer), layer, 33);
        if (first.empty()) first.assign(run.y(), run.y() + run.bytes());
        CHECK(std::memcmp(first.data(), run.y(), run.bytes()) == 0, "%d threads", threads);
    }
}

#define X(name, isa)                                              \
    TARPON_TEST(test_cpu_linear_ignores_thread_count_on_##name) { \
        check_thread_counts(Isa::isa);                            \
    }
TARPON_FOR_EACH_ISA(X)
#undef X

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
