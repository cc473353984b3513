// tarpon_linear_desc.arithmetic through the C ABI, on the CPU: which kernels it chooses, what it
// refuses, and that callers who know a shorter descriptor get exact arithmetic.
// Run alone: cpu_arithmetic_abi_test [part of a test's name].
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "abi_support.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

constexpr int64_t kN = 80, kK = 256, kRows = 5;

class ArithmeticFixture {
  public:
    ArithmeticFixture() : layer_(make_layer(kN, kK, 128, Values::kRandom, 7)) {
        tarpon_device *device = nullptr;
        REQUIRE(tarpon_device_open(TARPON_DEVICE_CPU, 0, nullptr, &device) == TARPON_OK);
        device_.reset(device);
        desc_.struct_size = sizeof desc_;
        desc_.in_features = kK;
        desc_.out_features = kN;
        desc_.group_size = 128;
        desc_.activation_dtype = TARPON_F32;
    }

    tarpon_linear_desc &desc() { return desc_; }

    tarpon_status create() {
        tarpon_linear_weights weights{};
        weights.struct_size = sizeof weights;
        weights.qweight = layer_.codes.data();
        weights.qweight_bytes = layer_.codes.size();
        weights.scales = layer_.scales.data();
        weights.scales_bytes = 2 * layer_.scales.size();
        tarpon_linear *linear = nullptr;
        const tarpon_status status = tarpon_linear_create(device_.get(), &desc_, &weights, &linear);
        linear_.reset(linear);
        return status;
    }

    std::string variant() const {
        tarpon_linear_info info{};
        info.struct_size = sizeof info;
        CHECK_EQ(tarpon_linear_get_info(linear_.get(), &info), TARPON_OK);
        return info.variant;
    }

    // The mean of |error| against binary64 over the mean of |y|.
    double mean_error() const {
        const auto x = make_activations(kRows, kK, TARPON_F32, Values::kRandom, 8);
        const auto *values = reinterpret_cast<const float *>(x.data());
        std::vector<float> y(kRows * kN);
        size_t workspace_bytes = 1;
        CHECK_EQ(tarpon_linear_workspace_bytes(linear_.get(), kRows, &workspace_bytes), TARPON_OK);
        CHECK_EQ(workspace_bytes, size_t{0}, "%d rows of %d inputs", int(kRows), int(kK));
        CHECK_EQ(tarpon_linear_run(linear_.get(), x.data(), y.data(), kRows, nullptr, 0, nullptr),
                 TARPON_OK, "%s", tarpon_last_error());
        double error = 0.0, sum = 0.0;
        for (int64_t m = 0; m < kRows; ++m) {
            for (int64_t n = 0; n < kN; ++n) {
                double exact = 0.0;
                for (int64_t k = 0; k < kK; ++k)
                    exact += values[m * kK + k] * layer_.weight(k, n);
                error += std::fabs(y[m * kN + n] - exact);
                sum += std::fabs(exact);
            }
        }
        return error / sum;
    }

  private:
    Owned<tarpon_device> device_;
    Layer layer_;
    tarpon_linear_desc desc_{};
    Owned<tarpon_linear> linear_;
};

bool is_int8(const std::string &variant) {
    return variant.find("_int8") != std::string::npos;
}

TARPON_TEST(test_linear_arithmetic_is_exact_by_default) {
    ArithmeticFixture fixture;
    REQUIRE(fixture.create() == TARPON_OK, "%s", tarpon_last_error());
    CHECK(!is_int8(fixture.variant()), "%s", fixture.variant().c_str());
    CHECK(fixture.mean_error() < 1e-6, "%g", fixture.mean_error());
}

// More than exact arithmetic's error, or the mode did nothing; less than its own bound.
TARPON_TEST(test_linear_arithmetic_int8_rounds_activations) {
    ArithmeticFixture fixture;
    fixture.desc().arithmetic = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    REQUIRE(fixture.create() == TARPON_OK, "%s", tarpon_last_error());
    CHECK(is_int8(fixture.variant()), "%s", fixture.variant().c_str());
    const double error = fixture.mean_error();
    CHECK(error > 1e-3 && error < 9e-3, "%g", error);
}

TARPON_TEST(test_linear_arithmetic_of_a_shorter_descriptor_is_exact) {
    ArithmeticFixture fixture;
    fixture.desc().struct_size = offsetof(tarpon_linear_desc, arithmetic);
    fixture.desc().arithmetic = TARPON_ARITHMETIC_INT8_ACTIVATIONS;  // beyond struct_size
    REQUIRE(fixture.create() == TARPON_OK, "%s", tarpon_last_error());
    CHECK(!is_int8(fixture.variant()), "%s", fixture.variant().c_str());
}

TARPON_TEST(test_linear_arithmetic_refuses_unknown_values) {
    ArithmeticFixture fixture;
    fixture.desc().arithmetic = 7;
    CHECK_EQ(fixture.create(), TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "arithmetic is 7"), "%s", tarpon_last_error());
    fixture.desc().arithmetic = TARPON_ARITHMETIC_EXACT;
    fixture.desc().reserved = 3;
    CHECK_EQ(fixture.create(), TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "reserved is 3"), "%s", tarpon_last_error());
}

TARPON_TEST(test_linear_arithmetic_refuses_a_variant_of_the_other) {
    ArithmeticFixture fixture;
    fixture.desc().variant = "cpu_scalar";
    fixture.desc().arithmetic = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
    CHECK_EQ(fixture.create(), TARPON_ERROR_UNSUPPORTED);
    CHECK(std::strstr(tarpon_last_error(), "as int8"), "%s", tarpon_last_error());
    fixture.desc().variant = "cpu_scalar_int8";
    CHECK_EQ(fixture.create(), TARPON_OK, "%s", tarpon_last_error());
}

}  // namespace
}  // namespace tarpon::test
