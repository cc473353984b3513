// Helpers of the tests of the CPU's linear layer: instruction sets, layers of every format with
// what they compute in binary64, and runs between guards.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/device.h"
#include "cpu/linear.h"
#include "testing/test.h"

namespace tarpon::cpu {

// X(suffix of a test's name, Isa, ...) for each instruction set.
#define TARPON_FOR_EACH_ISA(X, ...)          \
    X(scalar, kScalar, __VA_ARGS__)          \
    X(avx2, kAvx2, __VA_ARGS__)              \
    X(avx512, kAvx512, __VA_ARGS__)          \
    X(avx512_vnni, kAvx512Vnni, __VA_ARGS__) \
    X(avx512_bf16, kAvx512Bf16, __VA_ARGS__) \
    X(amx, kAmx, __VA_ARGS__)

// Those with kernels of their own for int8 activations.
#define TARPON_FOR_EACH_INT8_ISA(X, ...)     \
    X(scalar, kScalar, __VA_ARGS__)          \
    X(avx2, kAvx2, __VA_ARGS__)              \
    X(avx512_vnni, kAvx512Vnni, __VA_ARGS__) \
    X(amx, kAmx, __VA_ARGS__)

// TARPON_TEST_EACH_ISA(test, check, arguments...): test_on_scalar and so on, which call
// check(isa, arguments...), or are skipped by the name of what the processor lacks.
#define TARPON_ISA_TEST(suffix, isa, test, check, ...) \
    TARPON_TEST(test##_on_##suffix) {                  \
        require(Isa::isa);                             \
        check(Isa::isa __VA_OPT__(, ) __VA_ARGS__);    \
    }
#define TARPON_TEST_EACH_ISA(...) TARPON_FOR_EACH_ISA(TARPON_ISA_TEST, __VA_ARGS__)
#define TARPON_TEST_EACH_INT8_ISA(...) TARPON_FOR_EACH_INT8_ISA(TARPON_ISA_TEST, __VA_ARGS__)

inline constexpr Isa kAllIsas[] = {
#define TARPON_ISA(suffix, isa, ...) Isa::isa,
    TARPON_FOR_EACH_ISA(TARPON_ISA, )
#undef TARPON_ISA
};
static_assert(std::size(kAllIsas) == kIsaCount);

inline constexpr tarpon_linear_arithmetic kExact = TARPON_ARITHMETIC_EXACT;
inline constexpr tarpon_linear_arithmetic kInt8 = TARPON_ARITHMETIC_INT8_ACTIVATIONS;
inline constexpr tarpon_dtype kDtypes[] = {TARPON_F32, TARPON_F16, TARPON_BF16};
inline constexpr int64_t kPerChannel = -1;

inline void require(Isa isa) {
    if (!isa_supported(isa)) SKIP("needs %s", isa_needs(isa));
}

// ---- Elements ---------------------------------------------------------------------------------

inline const char *dtype_name(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? "F32" : dtype == TARPON_F16 ? "F16" : "BF16";
}

inline size_t elem_bytes(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 4 : 2;
}

inline float load(const void *p, int64_t i, tarpon_dtype dtype) {
    if (dtype == TARPON_F32) return static_cast<const float *>(p)[i];
    const uint16_t bits = static_cast<const uint16_t *>(p)[i];
    return dtype == TARPON_F16 ? to_float(half_t{bits}) : to_float(bf16_t{bits});
}

inline void store(void *p, int64_t i, tarpon_dtype dtype, float value) {
    if (dtype == TARPON_F32) {
        static_cast<float *>(p)[i] = value;
    } else if (dtype == TARPON_F16) {
        static_cast<uint16_t *>(p)[i] = from_float<half_t>(value).bits;
    } else {
        static_cast<uint16_t *>(p)[i] = from_float<bf16_t>(value).bits;
    }
}

// Half a unit in the last place, relative: the error of rounding y to its type.
inline double output_rounding(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 0x1p-24 : dtype == TARPON_F16 ? 0x1p-11 : 0x1p-8;
}

// The number that an e4m3 code stands for (OCP 8-bit floating point, section 5).
inline double e4m3_value(int code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 7 - 3);
    return code & 128 ? -magnitude : magnitude;
}

// ---- Layers -----------------------------------------------------------------------------------

struct Format {
    tarpon_weight_type type = TARPON_WEIGHT_INT4;
    tarpon_zero_type zero = TARPON_ZERO_SYMMETRIC;
    tarpon_scale_type scale = TARPON_SCALE_F16;
    bool bias = false, residual = false, permuted = false;
    bool two_levels = false;  // FLOAT and F32 only: six bits times a binary16 number of 8 groups

    int code_bias() const {
        return type == TARPON_WEIGHT_INT4 ? 8 : type == TARPON_WEIGHT_INT8 ? 128 : 0;
    }
    int code_count() const { return type == TARPON_WEIGHT_INT4 ? 16 : 256; }
    tarpon_dtype scale_dtype() const {
        return scale == TARPON_SCALE_F32   ? TARPON_F32
               : scale == TARPON_SCALE_F16 ? TARPON_F16
                                           : TARPON_BF16;
    }
    std::string describe() const {
        constexpr const char *kTypes[] = {"int4", "int8", "e4m3"};
        constexpr const char *kZeros[] = {"symmetric", "integer", "float"};
        return testing::format("%s %s scales %s%s%s%s%s", kTypes[type], kZeros[zero],
                               dtype_name(scale_dtype()), bias ? " bias" : "",
                               residual ? " residual" : "", permuted ? " permuted" : "",
                               two_levels ? " two levels" : "");
    }
};

// Every weight type with every zero type that it may have.
inline std::vector<Format> weight_formats() {
    std::vector<Format> formats;
    for (tarpon_weight_type type : {TARPON_WEIGHT_INT4, TARPON_WEIGHT_INT8}) {
        for (auto zero : {TARPON_ZERO_SYMMETRIC, TARPON_ZERO_INTEGER, TARPON_ZERO_FLOAT})
            formats.push_back({type, zero, TARPON_SCALE_F16});
    }
    formats.push_back({TARPON_WEIGHT_FP8_E4M3, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16});
    return formats;
}

// A layer with random weights and inputs, and what it computes in binary64.
struct Layer {
    int64_t n, k, group_size, groups;
    tarpon_dtype dtype;
    Format format;
    std::vector<uint8_t> codes;
    std::vector<unsigned char> scales, zeros, bias, residual, x;
    std::vector<int32_t> permutation;
    // [rows, n]: y; the magnitudes of all that is added up to it; and the most that int8
    // activations may be off.
    std::vector<double> y, magnitude, int8_error;

    // With `integers`, x is a small integer and every scale a power of two, so that every order of
    // summation in binary32 gives the exact result.
    Layer(int64_t rows, int64_t n_, int64_t k_, int64_t group, tarpon_dtype dtype_, bool integers,
          Format format_ = {})
        : n(n_),
          k(k_),
          group_size(group == kPerChannel ? k_ : group),
          groups((k_ + group_size - 1) / group_size),
          dtype(dtype_),
          format(format_),
          codes(static_cast<size_t>(n_ * k_)),
          scales(static_cast<size_t>(groups * n_) * elem_bytes(format.scale_dtype())),
          x(static_cast<size_t>(rows * k_) * elem_bytes(dtype_)),
          y(static_cast<size_t>(rows * n_)),
          magnitude(y.size()),
          int8_error(y.size()) {
        random_.seed(static_cast<uint32_t>(1 + n * 31 + k * 7 + group_size + format.type * 1000));
        fill_weights(integers);
        for (int64_t i = 0; i < rows * k; ++i)
            store(x.data(), i, dtype, input(integers));
        if (format.bias) bias.resize(static_cast<size_t>(n) * elem_bytes(dtype));
        for (int64_t i = 0; format.bias && i < n; ++i)
            store(bias.data(), i, dtype, input(integers));
        if (format.residual) residual.resize(y.size() * elem_bytes(dtype));
        for (int64_t i = 0; format.residual && i < rows * n; ++i)
            store(residual.data(), i, dtype, input(integers));
        if (format.permuted) {
            permutation.resize(static_cast<size_t>(k));
            for (int64_t i = 0; i < k; ++i)
                permutation[static_cast<size_t>(i)] = static_cast<int32_t>(i);
            std::shuffle(permutation.begin(), permutation.end(), random_);
        }
        compute();
    }

    double scale(int64_t row, int64_t column) const {
        return load(scales.data(), row / group_size * n + column, format.scale_dtype());
    }
    // Of codes, in the type's own numbers.
    double value(int64_t row, int64_t column) const {
        const int code = codes[static_cast<size_t>(row * n + column)];
        if (format.type == TARPON_WEIGHT_FP8_E4M3) return e4m3_value(code);
        return code - format.code_bias();
    }
    // What is added to value * scale.
    double offset(int64_t row, int64_t column) const {
        const int64_t i = row / group_size * n + column;
        if (format.zero == TARPON_ZERO_INTEGER)
            return (format.code_bias() - zeros[static_cast<size_t>(i)]) * scale(row, column);
        if (format.zero == TARPON_ZERO_FLOAT) {
            return load(zeros.data(), i, format.scale_dtype()) +
                   format.code_bias() * scale(row, column);
        }
        return 0.0;
    }
    // Of the input that row r of the codes is multiplied with.
    double activation(int64_t m, int64_t r) const {
        return load(x.data(), m * k + (permutation.empty() ? r : permutation[size_t(r)]), dtype);
    }
    // Inputs that are rounded to int8 together.
    int64_t step() const { return groups > 1 ? std::min<int64_t>(group_size, 128) : 128; }

    // Rounding to the output, and binary32 sums of at most 128 products of a group and then of the
    // groups (of every step of inputs), and of offsets, bias and residual.
    double bound(size_t i, tarpon_linear_arithmetic arithmetic) const {
        const double additions = 128.0 + 2.0 * static_cast<double>(k) / double(step()) + 6.0;
        const double inputs = arithmetic == kInt8 ? int8_error[i] * 1.001 : 0.0;
        return output_rounding(dtype) * (std::fabs(y[i]) * 1.01 + inputs) + inputs +
               additions * 0x1p-24 * magnitude[i] + 0x1p-25;
    }

    std::string describe(int64_t m) const {
        return testing::format("%s %s m=%lld n=%lld k=%lld group=%lld", dtype_name(dtype),
                               format.describe().c_str(), static_cast<long long>(m),
                               static_cast<long long>(n), static_cast<long long>(k),
                               static_cast<long long>(group_size));
    }

    LinearProblem problem(tarpon_linear_arithmetic arithmetic) const {
        LinearProblem p{n, k, group_size, groups, format.type, dtype, arithmetic};
        p.zero_type = format.zero;
        p.scale_type = format.scale;
        p.has_bias = format.bias;
        p.permuted = format.permuted;
        return p;
    }
    LinearWeights weights() const {
        return {codes.data(), scales.data(), zeros.empty() ? nullptr : zeros.data(),
                bias.empty() ? nullptr : bias.data(),
                permutation.empty() ? nullptr : permutation.data()};
    }

    // The most |x| of a step of row m, from row `first` of the codes on.
    double max_magnitude(int64_t m, int64_t first) const {
        double max = 0.0;
        for (int64_t r = first; r < std::min(first + step(), k); ++r)
            max = std::max(max, std::fabs(activation(m, r)));
        return max;
    }

  private:
    float input(bool integers) {
        return integers ? static_cast<float>(static_cast<int>(random_() % 9) - 4)
                        : normal_(random_);
    }

    void fill_weights(bool integers) {
        const auto codes_end = static_cast<uint32_t>(format.code_count());
        for (uint8_t &code : codes) {
            code = static_cast<uint8_t>(random_() % codes_end);
            if (format.type == TARPON_WEIGHT_FP8_E4M3) {
                if ((code & 127) == 127) code = 0;                  // NaN
                if (integers) code = uint8_t(0x38 | (code & 128));  // 1 and -1
            }
        }
        const tarpon_dtype scale_dtype = format.scale_dtype();
        const int64_t count = groups * n;
        for (int64_t i = 0; i < count; ++i) {
            const float scale = integers ? 1.0f / static_cast<float>(1 << random_() % 3)
                                         : 0.002f + 0.03f * std::fabs(normal_(random_));
            store(scales.data(), i, scale_dtype, scale);
        }
        if (format.zero == TARPON_ZERO_INTEGER) {
            zeros.resize(static_cast<size_t>(count));
            for (unsigned char &zero : zeros)
                zero = static_cast<unsigned char>(random_() % codes_end);
        } else if (format.zero == TARPON_ZERO_FLOAT) {
            zeros.resize(static_cast<size_t>(count) * elem_bytes(scale_dtype));
            for (int64_t i = 0; i < count; ++i) {
                const float scale = load(scales.data(), i, scale_dtype);
                const float minimum =
                    integers ? static_cast<float>(static_cast<int>(random_() % 17) - 8) / 4
                             : -scale * std::fabs(normal_(random_)) * float(codes_end) / 2;
                store(zeros.data(), i, scale_dtype, minimum);
            }
        }
        if (format.two_levels) fill_two_levels();
    }

    void fill_two_levels() {
        for (int64_t c = 0; c < n; ++c) {
            float super[2] = {};
            for (int64_t g = 0; g < groups; ++g) {
                for (int i = 0; i < 2; ++i) {
                    if (g % 8 == 0) {
                        const float value = 0.0003f * normal_(random_) * float(1 - 2 * i);
                        super[i] = to_float(from_float<half_t>(value));
                    }
                    const float value = static_cast<float>(random_() % 64) * super[i];
                    store(i ? zeros.data() : scales.data(), g * n + c, TARPON_F32, value);
                }
            }
        }
    }

    void compute() {
        const auto rows = static_cast<int64_t>(y.size()) / n;
        std::vector<double> weights(codes.size()), parts(codes.size());
        for (int64_t i = 0; i < n * k; ++i) {
            const double product = value(i / n, i % n) * scale(i / n, i % n);
            const double shift = offset(i / n, i % n);
            weights[static_cast<size_t>(i)] = product + shift;
            parts[static_cast<size_t>(i)] = std::fabs(product) + std::fabs(shift);
        }
        for (int64_t m = 0; m < rows; ++m) {
            double half_step = 0.0;  // of the int8 that a step's inputs are rounded to
            for (int64_t r = 0; r < k; ++r) {
                const double a = activation(m, r);
                if (r % step() == 0) half_step = max_magnitude(m, r) / 127.0 / 2.0;
                for (int64_t c = 0; c < n; ++c) {
                    const auto w = static_cast<size_t>(r * n + c);
                    const auto i = static_cast<size_t>(m * n + c);
                    y[i] += a * weights[w];
                    magnitude[i] += std::fabs(a) * parts[w];
                    int8_error[i] += half_step * std::fabs(weights[w]);
                }
            }
            for (int64_t c = 0; c < n; ++c) {
                const auto i = static_cast<size_t>(m * n + c);
                const double b = format.bias ? load(bias.data(), c, dtype) : 0.0;
                const double r = format.residual ? load(residual.data(), m * n + c, dtype) : 0.0;
                y[i] += b + r;
                magnitude[i] += std::fabs(b) + std::fabs(r);
            }
        }
    }

    std::mt19937 random_;
    std::normal_distribution<float> normal_;
};

// ---- Plans and runs ---------------------------------------------------------------------------

inline std::unique_ptr<Device> open(Isa isa, int threads) {
    setenv("TARPON_CPU_ISA", isa_name(isa), 1);
    tarpon_device_options options{};
    options.struct_size = sizeof options;
    options.thread_count = threads;
    return cpu_backend().open(0, options);
}

inline std::unique_ptr<LinearPlan> make_plan(Device &device, const Layer &layer,
                                             tarpon_linear_arithmetic arithmetic = kExact) {
    const LinearProblem problem = layer.problem(arithmetic);
    for (const LinearVariant &variant : device.linear_variants()) {
        if (!variant.supports(device, problem)) continue;
        return variant.create(device, problem, layer.weights());
    }
    fail(TARPON_ERROR_INTERNAL, "no variant for %s", layer.describe(0).c_str());
}

// y between two margins that must stay as they are; x one element into its allocation, after NaN;
// the workspace full of NaN. The residual, if any, is y itself for even m and apart for odd m.
class Run {
  public:
    // Rows first_row..first_row + m of the layer's x.
    Run(const LinearPlan &plan, const Layer &layer, int64_t m, int64_t first_row = 0)
        : layer_(layer),
          m_(m),
          bytes_(static_cast<size_t>(m * layer.n) * elem_bytes(layer.dtype)),
          margin_(64 + elem_bytes(layer.dtype)) {  // y is aligned to its elements and no more
        const size_t elem = elem_bytes(layer.dtype);
        const size_t x_bytes = static_cast<size_t>(m * layer.k) * elem;
        std::vector<unsigned char> x(x_bytes + 2 * elem, 0xff);
        if (x_bytes > 0) {
            std::memcpy(x.data() + elem,
                        layer.x.data() + static_cast<size_t>(first_row * layer.k) * elem, x_bytes);
        }
        y_.assign(bytes_ + 2 * margin_, kGuard);
        const unsigned char *residual = nullptr;
        if (layer.format.residual) {
            residual = layer.residual.data() + static_cast<size_t>(first_row * layer.n) * elem;
            if (m % 2 == 0) {
                std::memcpy(y_.data() + margin_, residual, bytes_);
                residual = y_.data() + margin_;
            }
        }
        const size_t workspace_bytes = plan.workspace_bytes(m);
        std::vector<unsigned char> workspace(workspace_bytes + 256 + margin_, 0xff);
        const size_t skew = reinterpret_cast<uintptr_t>(workspace.data()) % 256;
        unsigned char *aligned = workspace.data() + (256 - skew) % 256;
        status_ =
            plan.run({x.data() + elem, y_.data() + margin_, m, workspace_bytes ? aligned : nullptr,
                      workspace_bytes, nullptr, residual});
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

// The mean of |error| over the mean of |y|: the bar of every device; and with int8 activations the
// error of rounding normally distributed inputs with 128 to a scale, 0.6%, and a margin. Weights of
// mostly one sign make a row's columns err alike, so that few rows are a small sample.
inline double mean_error_limit(const Layer &layer, tarpon_linear_arithmetic arithmetic) {
    if (arithmetic == kInt8) return layer.format.zero == TARPON_ZERO_SYMMETRIC ? 9e-3 : 1.8e-2;
    return layer.dtype == TARPON_BF16 ? 2e-3 : 5e-4;
}

// Runs the layer's first m rows and compares every y with binary64.
inline void check_run(const Layer &layer, const LinearPlan &plan, int64_t m,
                      tarpon_linear_arithmetic arithmetic) {
    const Run run(plan, layer, m);
    const std::string what = layer.describe(m);
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
    CHECK(error_sum <= mean_error_limit(layer, arithmetic) * y_sum, "%s: mean relative error %.3g",
          what.c_str(), error_sum / y_sum);
}

// Runs the layer's first m rows, whose sums are all exact, and compares every bit.
inline void check_bits(const Layer &layer, const LinearPlan &plan, int64_t m) {
    const Run run(plan, layer, m);
    CHECK_EQ(run.status(), TARPON_OK, "%s", layer.describe(m).c_str());
    std::vector<unsigned char> expected(run.bytes());
    for (size_t i = 0; i < run.count(); ++i) {
        // Exact in binary32; rounded once, to the type of y.
        store(expected.data(), static_cast<int64_t>(i), layer.dtype,
              static_cast<float>(layer.y[i]));
    }
    CHECK(std::memcmp(run.y(), expected.data(), run.bytes()) == 0, "%s", layer.describe(m).c_str());
}

}  // namespace tarpon::cpu
