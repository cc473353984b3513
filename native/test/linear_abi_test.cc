// The linear layer through the C ABI, the same tests on every device that is present: accuracy
// against a binary64 product of the same weights, exactness on integers, nothing written outside y.
//   linear_abi_test [--filter cpu|sim|cuda]
#include <algorithm>

#include "device_array.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

constexpr int64_t kRows[] = {1,  2,  3,  4,  7,  8,  9,   15,  16, 17,
                             31, 32, 33, 63, 64, 65, 100, 128, 129};
constexpr int64_t kSizes[] = {64, 96, 128, 200, 384, 1000, 1536};

struct Reference {
    std::vector<double> y, magnitude;  // [m, N]: the sums of x*w and of |x*w|
};

Reference multiply(const Layer &layer, const std::vector<char> &x, tarpon_dtype dtype, int64_t m) {
    Reference out{std::vector<double>(m * layer.n), std::vector<double>(m * layer.n)};
    std::vector<double> weights(layer.n);
    for (int64_t k = 0; k < layer.k; ++k) {
        for (int64_t n = 0; n < layer.n; ++n)
            weights[n] = layer.weight(k, n);
        for (int64_t row = 0; row < m; ++row) {
            const double a = load(x.data(), dtype, row * layer.k + k);
            double *y = &out.y[row * layer.n], *magnitude = &out.magnitude[row * layer.n];
            for (int64_t n = 0; n < layer.n; ++n) {
                y[n] += a * weights[n];
                magnitude[n] += std::fabs(a * weights[n]);
            }
        }
    }
    return out;
}

void check_case(tarpon_device *device, int64_t m, int64_t n, int64_t k, int32_t group_size,
                tarpon_dtype dtype, Values values) {
    const std::string where = testing::format(
        "m %lld n %lld k %lld group %d %s", static_cast<long long>(m), static_cast<long long>(n),
        static_cast<long long>(k), group_size, dtype_name(dtype));
    const Layer layer = make_layer(n, k, group_size, values, 7 * n + k + group_size);
    const std::vector<char> activations = make_activations(m, k, dtype, values, 3 * m + k);
    Owned<tarpon_linear> linear;
    REQUIRE(create_linear(device, layer, dtype, nullptr, &linear) == TARPON_OK, "%s: %s",
            where.c_str(), tarpon_last_error());
    const DeviceArray x(device, activations.size());
    x.copy_in(activations.data(), activations.size());
    const std::vector<char> y = run_linear(device, linear.get(), x, m, n, dtype);
    const Reference reference = multiply(layer, activations, dtype, m);

    double error = 0, size = 0;
    for (int64_t i = 0; i < m * n; ++i) {
        const double got = load(y.data(), dtype, i), want = reference.y[i];
        if (values == Values::kExactInteger) {
            // One rounding, of the stored result; a partial sum is exact.
            char expected[4];
            store(expected, dtype, 0, static_cast<float>(want));
            if (!CHECK_EQ(got, load(expected, dtype, 0), "%s y[%lld, %lld]", where.c_str(),
                          static_cast<long long>(i / n), static_cast<long long>(i % n)))
                return;
            continue;
        }
        error += std::fabs(got - want);
        size += std::fabs(want);
        // Binary32 accumulation errs by at most K units of the sum of magnitudes; the kernels'
        // trees and blocks stay far below it, and one stored rounding comes on top.
        const double bound = rounding(dtype) * std::fabs(want) + 1e-6 * reference.magnitude[i] +
                             (dtype == TARPON_F16 ? 0x1p-25 : 0);
        if (!(std::fabs(got - want) <= bound)) {
            CHECK_NEAR(got, want, bound, "%s y[%lld, %lld]", where.c_str(),
                       static_cast<long long>(i / n), static_cast<long long>(i % n));
            return;
        }
    }
    if (values == Values::kRandom) {
        CHECK(error <= mean_bar(dtype) * size, "%s: mean relative error %.3g, bar %.3g",
              where.c_str(), error / size, mean_bar(dtype));
    }
}

std::vector<tarpon_dtype> dtypes_of(tarpon_device_kind kind) {
    if (kind == TARPON_DEVICE_CPU) return {TARPON_F32, TARPON_F16, TARPON_BF16};
    return {TARPON_F16, TARPON_BF16};
}

Owned<tarpon_device> device_or_skip(tarpon_device_kind kind) {
    std::string reason;
    Owned<tarpon_device> device = open_device(kind, &reason);
    if (!device) testing::skip("%s", reason.c_str());
    return device;
}

// Every M with every N, every K and all dtypes; both groups by turns, so that each meets every M
// with every dtype. A sanitized build takes every third M.
void check_grid(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
#ifdef __SANITIZE_ADDRESS__
    constexpr size_t kStep = 3;
#else
    constexpr size_t kStep = 1;
#endif
    for (size_t row = 0; row < std::size(kRows); row += kStep) {
        for (size_t i = 0; i < std::size(kSizes); ++i) {
            const int64_t k = kSizes[(i + row) % std::size(kSizes)];
            for (tarpon_dtype dtype : dtypes_of(kind)) {
                check_case(device.get(), kRows[row], kSizes[i], k, (row + i) % 2 ? 128 : -1, dtype,
                           Values::kRandom);
            }
        }
    }
}

void check_exact_integers(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    for (tarpon_dtype dtype : dtypes_of(kind)) {
        for (int32_t group_size : {128, -1}) {
            check_case(device.get(), 5, 96, 200, group_size, dtype, Values::kExactInteger);
            check_case(device.get(), 17, 200, 384, group_size, dtype, Values::kExactInteger);
            check_case(device.get(), 65, 64, 128, group_size, dtype, Values::kExactInteger);
            check_case(device.get(), 1, 33, 33, group_size, dtype, Values::kExactInteger);
        }
    }
}

// Groups of 32 and 64.
void check_small_groups(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    for (int32_t group_size : {32, 64}) {
        for (tarpon_dtype dtype : dtypes_of(kind)) {
            for (int64_t m : {1, 16, 33}) {
                check_case(device.get(), m, 200, 392, group_size, dtype, Values::kRandom);
                check_case(device.get(), m, 96, 1000, group_size, dtype, Values::kExactInteger);
            }
            check_case(device.get(), 2, 64, 30, group_size, dtype, Values::kRandom);
        }
    }
}

// x and y at addresses that are aligned to an element and to nothing more.
void check_element_alignment(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    const int64_t m = 3, n = 96, k = 128;
    for (tarpon_dtype dtype : dtypes_of(kind)) {
        const Layer layer = make_layer(n, k, 128, Values::kExactInteger, 5);
        const auto activations = make_activations(m, k, dtype, Values::kExactInteger, 6);
        Owned<tarpon_linear> linear;
        REQUIRE(create_linear(device.get(), layer, dtype, nullptr, &linear) == TARPON_OK, "%s",
                tarpon_last_error());
        const size_t elem = dtype_bytes(dtype), y_bytes = m * n * elem;
        const DeviceArray aligned(device.get(), activations.size());
        aligned.copy_in(activations.data(), activations.size());
        const auto expected = run_linear(device.get(), linear.get(), aligned, m, n, dtype);
        const DeviceArray x(device.get(), activations.size() + elem),
            y(device.get(), y_bytes + elem);
        x.copy_in(activations.data(), activations.size(), static_cast<std::ptrdiff_t>(elem));
        size_t workspace_bytes = 0;
        REQUIRE(tarpon_linear_workspace_bytes(linear.get(), m, &workspace_bytes) == TARPON_OK);
        const DeviceArray workspace(device.get(), std::max<size_t>(workspace_bytes, 256));
        REQUIRE(tarpon_linear_run(linear.get(), x.address() + elem, y.address() + elem, m,
                                  workspace.address(), workspace_bytes, nullptr) == TARPON_OK,
                "%s", tarpon_last_error());
        const auto got = y.read();
        CHECK(std::equal(expected.begin(), expected.end(), got.begin() + elem), "%s",
              dtype_name(dtype));
        CHECK(got[0] == '\xff', "%s: written before y", dtype_name(dtype));
    }
}

// Weights in MARLIN order give the bits that the same weights give in plain order.
void check_marlin_order(tarpon_device_kind kind) {
    const Owned<tarpon_device> device = device_or_skip(kind);
    const int64_t m = 4, n = 200, k = 300;
    const tarpon_dtype dtype = TARPON_F16;
    for (int32_t group_size : {128, -1}) {
        const Layer layer = make_layer(n, k, group_size, Values::kRandom, 8);
        size_t qweight_bytes = 0, scales_bytes = 0;
        REQUIRE(tarpon_marlin_size(n, k, group_size, &qweight_bytes, &scales_bytes) == TARPON_OK);
        std::vector<int32_t> qweight(qweight_bytes / 4);
        std::vector<uint16_t> scales(scales_bytes / 2);
        REQUIRE(tarpon_marlin_pack(layer.codes.data(), layer.scales.data(), n, k, group_size,
                                   qweight.data(), scales.data()) == TARPON_OK);
        tarpon_linear_desc desc{};
        desc.struct_size = sizeof desc;
        desc.in_features = k;
        desc.out_features = n;
        desc.group_size = group_size;
        desc.activation_dtype = dtype;
        tarpon_linear_weights weights{};
        weights.struct_size = sizeof weights;
        weights.layout = TARPON_LAYOUT_MARLIN;
        weights.qweight = qweight.data();
        weights.qweight_bytes = qweight_bytes;
        weights.scales = scales.data();
        weights.scales_bytes = scales_bytes;
        tarpon_linear *raw = nullptr;
        REQUIRE(tarpon_linear_create(device.get(), &desc, &weights, &raw) == TARPON_OK, "%s",
                tarpon_last_error());
        const Owned<tarpon_linear> from_marlin(raw);
        Owned<tarpon_linear> from_plain;
        REQUIRE(create_linear(device.get(), layer, dtype, nullptr, &from_plain) == TARPON_OK);
        const auto activations = make_activations(m, k, dtype, Values::kRandom, 9);
        const DeviceArray x(device.get(), activations.size());
        x.copy_in(activations.data(), activations.size());
        CHECK(run_linear(device.get(), from_marlin.get(), x, m, n, dtype) ==
                  run_linear(device.get(), from_plain.get(), x, m, n, dtype),
              "group %d", group_size);
    }
}

#define TARPON_EVERY_DEVICE(check)            \
    TARPON_TEST(test_linear_##check##_cpu) {  \
        check_##check(TARPON_DEVICE_CPU);     \
    }                                         \
    TARPON_TEST(test_linear_##check##_sim) {  \
        check_##check(TARPON_DEVICE_SIM);     \
    }                                         \
    TARPON_TEST(test_linear_##check##_cuda) { \
        check_##check(TARPON_DEVICE_CUDA);    \
    }

TARPON_EVERY_DEVICE(grid)
TARPON_EVERY_DEVICE(exact_integers)
TARPON_EVERY_DEVICE(element_alignment)
TARPON_EVERY_DEVICE(marlin_order)
TARPON_EVERY_DEVICE(small_groups)

// ---- What would be launched ---------------------------------------------------------------------

tarpon_linear_desc explained_desc() {
    tarpon_linear_desc desc{};
    desc.struct_size = sizeof desc;
    desc.in_features = 4096;
    desc.out_features = 8192;
    desc.group_size = 128;
    desc.activation_dtype = TARPON_F16;
    return desc;
}

std::string explain(const tarpon_linear_desc &desc, int64_t m, int32_t compute_capability) {
    size_t bytes = 0;
    if (!CHECK_EQ(tarpon_linear_explain(&desc, m, compute_capability, 0, nullptr, 0, &bytes),
                  TARPON_OK, "%s", tarpon_last_error())) {
        return {};
    }
    std::string text(bytes, '?');
    CHECK_EQ(tarpon_linear_explain(&desc, m, compute_capability, 0, text.data(), bytes, nullptr),
             TARPON_OK);
    CHECK_EQ(text.back(), '\0');
    text.pop_back();
    return text;
}

TARPON_TEST(test_linear_explain_names_tiles_and_times) {
    tarpon_linear_desc desc = explained_desc();
    const std::string few = explain(desc, 1, 90);
    CHECK(few.find("y[1, 8192] = x[1, 4096] * W: kernels Int4Symmetric") == 0, "%s", few.c_str());
    CHECK(few.find("132 SMs") != std::string::npos, "%s", few.c_str());
    CHECK(few.find("->") < few.find("8x128x128"), "%s", few.c_str());
    desc.mode = TARPON_LINEAR_DETERMINISTIC;
    desc.zero_type = TARPON_ZERO_FLOAT;
    const std::string many = explain(desc, 1024, 80);
    CHECK(many.find("Int4Float") != std::string::npos, "%s", many.c_str());
    CHECK(many.find("deterministic") != std::string::npos, "%s", many.c_str());
    CHECK(many.find("64x32x256") != std::string::npos, "%s", many.c_str());

    desc.zero_type = TARPON_ZERO_SYMMETRIC;
    desc.sparsity = TARPON_SPARSITY_2_4;
    const std::string sparse = explain(desc, 1, 90);
    CHECK(sparse.find("Int4Sparse") != std::string::npos, "%s", sparse.c_str());

    char start[9];
    CHECK_EQ(tarpon_linear_explain(&desc, 1, 80, 108, start, sizeof start, nullptr), TARPON_OK);
    CHECK_EQ(std::string(start), "y[1, 819");
}

TARPON_TEST(test_linear_explain_refuses_bad_descriptions) {
    const tarpon_linear_desc desc = explained_desc();
    char text[16];
    const auto call = [&](const tarpon_linear_desc &d, int64_t m, int32_t arch, int32_t sms) {
        return tarpon_linear_explain(&d, m, arch, sms, text, sizeof text, nullptr);
    };
    CHECK_EQ(call(desc, 0, 90, 0), TARPON_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(call(desc, 1, 75, 0), TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::string(tarpon_last_error()).find("75") != std::string::npos, "%s",
          tarpon_last_error());
    CHECK_EQ(call(desc, 1, 90, -1), TARPON_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(tarpon_linear_explain(&desc, 1, 90, 0, nullptr, 16, nullptr),
             TARPON_ERROR_INVALID_ARGUMENT);
    tarpon_linear_desc sparse = desc;
    sparse.sparsity = TARPON_SPARSITY_2_4;
    sparse.zero_type = TARPON_ZERO_FLOAT;
    CHECK_EQ(call(sparse, 1, 90, 0), TARPON_ERROR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace tarpon::test
