// Every format of weights in the CPU's linear layer, on every instruction set of this processor in
// turn: against binary64, exactly where integers are exact, bias, residual and permuted inputs, and
// rows that do not depend on other rows. Run alone: cpu_linear_formats_test [part of a test's name].
#include "cpu_linear_support.h"

namespace tarpon::cpu {
namespace {

constexpr tarpon_scale_type kScaleTypes[] = {TARPON_SCALE_F16, TARPON_SCALE_BF16, TARPON_SCALE_F32};
constexpr int64_t kGroups[] = {32, 64, 128, kPerChannel};
// A tile of every height in every kernel, and several tiles.
constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 13};
constexpr int64_t kMaxRows = 13;

bool has_kernel(const Format &format, tarpon_linear_arithmetic arithmetic) {
    return arithmetic == kExact || format.type != TARPON_WEIGHT_FP8_E4M3;
}

// Formats in full; the shape, with both edges ragged, and what else a layer may have vary with them.
void check_formats(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    unsigned variation = 0;
    for (Format format : weight_formats()) {
        if (!has_kernel(format, arithmetic)) continue;
        for (tarpon_scale_type scale : kScaleTypes) {
            for (int64_t group : kGroups) {
                for (tarpon_dtype dtype : kDtypes) {
                    ++variation;
                    format.scale = scale;
                    format.bias = variation % 2 == 0;
                    format.residual = variation % 3 == 0;
                    format.permuted = variation % 5 == 0;
                    const Layer layer(kMaxRows, 64 + variation % 37, 250 + variation % 31, group,
                                      dtype, false, format);
                    const auto plan = make_plan(*device, layer, arithmetic);
                    for (int64_t m : kRows)
                        check_run(layer, *plan, m, arithmetic);
                }
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_formats_match_binary64, check_formats, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_formats_int8_match_binary64, check_formats, kInt8)

// Scales and minimums of two levels take less memory than the same as they are, which the plan
// keeps if but one of them is no product; they give the same bits.
void check_two_levels(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    for (tarpon_weight_type type : {TARPON_WEIGHT_INT4, TARPON_WEIGHT_INT8}) {
        for (int64_t groups : {8, 16, 19}) {
            Format format{type, TARPON_ZERO_FLOAT, TARPON_SCALE_F32};
            format.two_levels = true;
            const Layer layer(kMaxRows, 99, 32 * groups, 32, TARPON_F32, false, format);
            const auto plan = make_plan(*device, layer, arithmetic);
            for (int64_t m : kRows)
                check_run(layer, *plan, m, arithmetic);
            Layer other = layer;
            for (std::vector<unsigned char> *values : {&other.scales, &other.zeros}) {
                const std::vector<unsigned char> kept = *values;
                store(values->data(), 5 * layer.n + 98, TARPON_F32, 0.001234567f);
                const auto plain = make_plan(*device, other, arithmetic);
                CHECK(plan->weights_bytes() + 4u * 99u * unsigned(groups) <= plain->weights_bytes(),
                      "%llu and %llu bytes", static_cast<unsigned long long>(plan->weights_bytes()),
                      static_cast<unsigned long long>(plain->weights_bytes()));
                const Run a(*plan, layer, kMaxRows), b(*plain, other, kMaxRows);
                for (size_t i = 0; i < a.count(); ++i) {
                    if (i % 99 == 98) continue;  // the column with that value
                    CHECK_EQ(a.at(i), b.at(i), "%s y[%zu]", layer.describe(kMaxRows).c_str(), i);
                }
                *values = kept;
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_multiplies_out_two_levels, check_two_levels, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_multiplies_out_two_levels, check_two_levels, kInt8)

void check_formats_on_integers(Isa isa) {
    const auto device = open(isa, 2);
    for (Format format : weight_formats()) {
        for (tarpon_scale_type scale : kScaleTypes) {
            for (tarpon_dtype dtype : kDtypes) {
                format.scale = scale;
                format.bias = format.residual = format.permuted = true;
                const Layer layer(kMaxRows, 88, 200, 64, dtype, true, format);
                const auto plan = make_plan(*device, layer);
                for (int64_t m : kRows)
                    check_bits(layer, *plan, m);
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_formats_are_exact_on_integers, check_formats_on_integers)

// One input, 1, and as many columns as there are codes: y is the weight of each code.
void check_every_code(Isa isa) {
    const auto device = open(isa, 1);
    for (const Format &format : weight_formats()) {
        const int64_t n = format.code_count();
        for (int64_t row = 0; row < 8; ++row) {  // each has its own place in a unit
            Layer layer(1, n, 8, 128, TARPON_F32, true, format);
            for (int64_t c = 0; c < n; ++c) {
                const bool nan = format.type == TARPON_WEIGHT_FP8_E4M3 && (c & 127) == 127;
                layer.codes[static_cast<size_t>(row * n + c)] = static_cast<uint8_t>(nan ? 0 : c);
            }
            for (int64_t i = 0; i < 8; ++i)
                store(layer.x.data(), i, TARPON_F32, i == row ? 1.0f : 0.0f);
            const Run run(*make_plan(*device, layer), layer, 1);
            for (int64_t c = 0; c < n; ++c) {
                const double weight =
                    layer.value(row, c) * layer.scale(row, c) + layer.offset(row, c);
                CHECK_EQ(run.at(static_cast<size_t>(c)), weight, "%s row %d code %d",
                         format.describe().c_str(), int(row), int(c));
            }
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_knows_every_code, check_every_code)

// Row i of y has the same bits alone, in tiles of every height, at every place in them, and beside
// rows that are NaN.
void check_rows_are_independent(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    constexpr int64_t kManyRows = 80;  // more than the highest tile
    for (Format format : weight_formats()) {
        if (!has_kernel(format, arithmetic)) continue;
        for (tarpon_dtype dtype : kDtypes) {
            format.bias = format.residual = true;
            const Layer layer(kManyRows, 72, 392, 128, dtype, false, format);
            const auto plan = make_plan(*device, layer, arithmetic);
            const size_t row_bytes = static_cast<size_t>(layer.n) * elem_bytes(dtype);
            std::vector<unsigned char> alone;
            for (int64_t i = 0; i < kManyRows; ++i) {
                const Run run(*plan, layer, 1, i);
                alone.insert(alone.end(), run.y(), run.y() + row_bytes);
            }
            auto check = [&](const Run &run, int64_t first, int64_t m, const char *beside) {
                for (int64_t i = 0; i < m; ++i) {
                    if (*beside && i % 2 == 1) continue;
                    CHECK(std::memcmp(run.y() + static_cast<size_t>(i) * row_bytes,
                                      alone.data() + static_cast<size_t>(first + i) * row_bytes,
                                      row_bytes) == 0,
                          "%s row %lld%s", layer.describe(m).c_str(), static_cast<long long>(i),
                          beside);
                }
            };
            for (int64_t m : {int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{6},
                              int64_t{7}, int64_t{11}, int64_t{17}, int64_t{33}, kManyRows}) {
                for (int64_t first : {int64_t{0}, kManyRows - m})
                    check(Run(*plan, layer, m, first), first, m, "");
            }
            Layer beside_nan = layer;
            for (int64_t i = 1; i < kManyRows; i += 2) {
                for (int64_t j = 0; j < layer.k; ++j)
                    store(beside_nan.x.data(), i * layer.k + j, dtype, std::nanf(""));
            }
            check(Run(*plan, beside_nan, kManyRows), 0, kManyRows, " beside NaN");
        }
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_rows_are_independent, check_rows_are_independent, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_rows_are_independent, check_rows_are_independent,
                          kInt8)

// A permuted layer is the plain layer of gathered inputs, bit by bit.
void check_permutation(Isa isa, tarpon_linear_arithmetic arithmetic) {
    const auto device = open(isa, 2);
    for (tarpon_dtype dtype : kDtypes) {
        Format format;
        format.zero = TARPON_ZERO_INTEGER;
        format.permuted = true;
        const Layer permuted(kMaxRows, 40, 333, 32, dtype, false, format);
        Layer plain = permuted;
        plain.format.permuted = false;
        plain.permutation.clear();
        for (int64_t m = 0; m < kMaxRows; ++m) {
            for (int64_t i = 0; i < plain.k; ++i) {
                store(plain.x.data(), m * plain.k + i, dtype,
                      static_cast<float>(permuted.activation(m, i)));
            }
        }
        const Run a(*make_plan(*device, permuted, arithmetic), permuted, kMaxRows);
        const Run b(*make_plan(*device, plain, arithmetic), plain, kMaxRows);
        CHECK(std::memcmp(a.y(), b.y(), a.bytes()) == 0, "%s", permuted.describe(kMaxRows).c_str());
    }
}

TARPON_TEST_EACH_ISA(test_cpu_linear_gathers_inputs, check_permutation, kExact)
TARPON_TEST_EACH_INT8_ISA(test_cpu_linear_int8_gathers_inputs, check_permutation, kInt8)

// Sparse weights and the deterministic mode are served by the same kernels; e4m3 weights have no
// kernel with int8 activations, nor has a group size that steps do not fit.
TARPON_TEST(test_cpu_linear_says_what_it_supports) {
    const auto device = open(Isa::kScalar, 1);
    auto served = [&](const LinearProblem &problem) {
        int count = 0;
        for (const LinearVariant &variant : device->linear_variants())
            count += variant.supports(*device, problem);
        return count;
    };
    LinearProblem problem{64, 256, 128, 2, TARPON_WEIGHT_INT4, TARPON_BF16, kExact};
    problem.mode = TARPON_LINEAR_DETERMINISTIC;
    problem.sparsity = TARPON_SPARSITY_2_4;
    CHECK_EQ(served(problem), 1);
    problem.sparsity = TARPON_SPARSITY_NONE;
    problem.group_size = 96;
    problem.groups = 3;
    CHECK_EQ(served(problem), 0);
    problem.group_size = 128;
    problem.groups = 2;
    problem.weight_type = TARPON_WEIGHT_FP8_E4M3;
    CHECK_EQ(served(problem), 1);
    problem.arithmetic = kInt8;
    CHECK_EQ(served(problem), 0);
    problem.weight_type = TARPON_WEIGHT_INT8;
    CHECK_EQ(served(problem), 1);
}

}  // namespace
}  // namespace tarpon::cpu
