// The quantisers and the pruner on the host, against their formulas in binary64 and what they
// guarantee. Alone: ctest -R linear_quantize
#include <cstring>

#include "format_layer.h"
#include "testing/test.h"

namespace tarpon::test {
namespace {

using ll = long long;

constexpr tarpon_dtype kDtypes[] = {TARPON_F32, TARPON_F16, TARPON_BF16};

// [N, K] of a dtype, with a group of zeros, a constant one and one without negatives.
std::vector<char> make_weight(int64_t n, int64_t k, tarpon_dtype dtype, uint64_t seed) {
    std::vector<char> out(n * k * dtype_bytes(dtype));
    testing::Random random(seed);
    for (int64_t i = 0; i < n * k; ++i) {
        const int64_t row = i / k;
        const double w = random.normal() * 0.05;
        store(out.data(), dtype, i,
              static_cast<float>(row == 1   ? 0
                                 : row == 2 ? 0.25
                                 : row == 3 ? std::fabs(w)
                                            : w));
    }
    return out;
}

FormatLayer quantize(const Format &format, int64_t n, int64_t k, const std::vector<char> &weight,
                     tarpon_dtype dtype) {
    FormatLayer out = make_format_layer(format, n, k, Values::kRandom, 1);
    const tarpon_linear_desc desc = out.desc(TARPON_F32);
    REQUIRE(
        tarpon_weights_quantize(&desc, weight.data(), dtype, out.codes.data(), out.scales.data(),
                                out.zeros.empty() ? nullptr : out.zeros.data()) == TARPON_OK,
        "%s: %s", format.name().c_str(), tarpon_last_error());
    return out;
}

// Relative rounding of a stored scale.
double scale_rounding(tarpon_scale_type type) {
    return type == TARPON_SCALE_F16 ? 0x1p-11 : type == TARPON_SCALE_BF16 ? 0x1p-8 : 0x1p-24;
}

struct Range {
    double low, high;
};

// Scales by the formula, and each code the nearest that the stored scale and zero allow.
void check_column(const FormatLayer &q, const std::vector<char> &weight, tarpon_dtype dtype,
                  int64_t column, const std::string &where) {
    const Format &format = q.format;
    const int64_t group_size = format.group_size == -1 ? q.k : format.group_size;
    const int steps = format.max_code();
    for (int64_t k0 = 0; k0 < q.k; k0 += group_size) {
        const int64_t k1 = std::min(q.k, k0 + group_size);
        Range range{INFINITY, -INFINITY};
        for (int64_t r = k0; r < k1; ++r) {
            const double w = load(weight.data(), dtype, column * q.k + r);
            range = {std::min(range.low, w), std::max(range.high, w)};
        }
        const double largest = std::max(-range.low, range.high);
        double want = largest / (format.weight_type == TARPON_WEIGHT_FP8_E4M3 ? 448 : steps / 2.0);
        if (format.zero_type == TARPON_ZERO_INTEGER)
            want = (std::max(range.high, 0.0) - std::min(range.low, 0.0)) / steps;
        if (format.zero_type == TARPON_ZERO_FLOAT) {
            want = (range.high - range.low) / steps;
            CHECK_NEAR(q.zero(k0, column), range.low,
                       scale_rounding(format.scale_type) * std::fabs(range.low),
                       "%s minimum of column %lld", where.c_str(), ll{column});
        }
        const double scale = q.scale(k0, column);
        CHECK_NEAR(scale, want, scale_rounding(format.scale_type) * want + 0x1p-25,
                   "%s scale [%lld, %lld]", where.c_str(), ll{k0 / group_size}, ll{column});
        for (int64_t r = k0; r < k1; ++r) {
            const double w = load(weight.data(), dtype, column * q.k + r);
            double bound = 0.5 * scale;
            if (format.weight_type == TARPON_WEIGHT_FP8_E4M3) {
                bound = std::max(std::fabs(w) / 16, scale * 0x1p-10);  // half a step of 3 bits
            }
            // The MARLIN packer rounds quotients of up to 8 to binary16 first.
            if (dtype == TARPON_F16 && format.weight_type == TARPON_WEIGHT_INT4 &&
                format.zero_type == TARPON_ZERO_SYMMETRIC && format.scale_type == TARPON_SCALE_F16)
                bound += scale * 0x1p-9;
            // Clamped codes: half a step more, and what rounding took off the scale or the minimum.
            bound *= 1 + 1e-6;
            const double edge = 0.5 * scale +
                                2 * steps * scale_rounding(format.scale_type) * scale +
                                scale_rounding(format.scale_type) * std::fabs(range.low);
            const int code = q.codes[r * q.n + column];
            const bool at_edge =
                code == 0 || code == steps ||
                (format.weight_type == TARPON_WEIGHT_FP8_E4M3 && (code & 0x7f) == 0x7e);
            if (!CHECK_NEAR(q.weight(r, column), w, bound + (at_edge ? edge : 0),
                            "%s weight [%lld, %lld] code %d", where.c_str(), ll{column}, ll{r},
                            code))
                return;
        }
    }
}

TARPON_TEST(test_linear_quantize_every_format) {
    const int64_t n = 70, k = 200;
    for (tarpon_weight_type type :
         {TARPON_WEIGHT_INT4, TARPON_WEIGHT_INT8, TARPON_WEIGHT_FP8_E4M3}) {
        for (tarpon_zero_type zero :
             {TARPON_ZERO_SYMMETRIC, TARPON_ZERO_INTEGER, TARPON_ZERO_FLOAT}) {
            if (type == TARPON_WEIGHT_FP8_E4M3 && zero != TARPON_ZERO_SYMMETRIC) continue;
            for (tarpon_scale_type scale :
                 {TARPON_SCALE_F16, TARPON_SCALE_BF16, TARPON_SCALE_F32}) {
                for (int32_t group : {-1, 32, 64, 128}) {
                    for (tarpon_dtype dtype : kDtypes) {
                        const Format format{type, zero, scale, group};
                        const auto weight = make_weight(n, k, dtype, 3);
                        const FormatLayer q = quantize(format, n, k, weight, dtype);
                        for (int64_t c = 0; c < n; ++c)
                            check_column(q, weight, dtype, c,
                                         format.name() + " of " + dtype_name(dtype));
                    }
                }
            }
        }
    }
}

TARPON_TEST(test_linear_quantize_int4_symmetric_f16_is_the_marlin_quantiser) {
    const int64_t n = 96, k = 200;
    for (tarpon_dtype dtype : kDtypes) {
        for (int32_t group : {-1, 32, 128}) {
            const auto weight = make_weight(n, k, dtype, 9);
            const FormatLayer q =
                quantize({TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F16, group}, n, k,
                         weight, dtype);
            std::vector<uint8_t> codes(n * k);
            std::vector<char> scales(q.scales.size());
            REQUIRE(tarpon_w4_quantize(weight.data(), dtype, n, k, group, codes.data(),
                                       reinterpret_cast<uint16_t *>(scales.data())) == TARPON_OK);
            CHECK(codes == q.codes && scales == q.scales, "%s group %d", dtype_name(dtype), group);
        }
    }
}

// All e4m3 numbers are their own nearest, and the middle of two goes to the even one.
TARPON_TEST(test_linear_quantize_e4m3_rounds_to_nearest_even) {
    constexpr int64_t kCodes = 127;
    std::vector<float> weight;
    for (int code = 0; code < kCodes; ++code)
        weight.push_back(static_cast<float>(e4m3_to_double(code)));
    for (int code = 0; code + 1 < kCodes; ++code)
        weight.push_back(
            static_cast<float>((e4m3_to_double(code) + e4m3_to_double(code + 1)) / -2));
    const auto k = static_cast<int64_t>(weight.size());
    std::vector<char> bytes(4 * weight.size());
    std::memcpy(bytes.data(), weight.data(), bytes.size());
    const FormatLayer q =
        quantize({TARPON_WEIGHT_FP8_E4M3, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_F32, -1}, 1, k, bytes,
                 TARPON_F32);
    CHECK_EQ(q.scale(0, 0), 1.0);
    for (int code = 0; code < kCodes; ++code)
        CHECK_EQ(int{q.codes[code]}, code, "of %g", double{weight[code]});
    for (int code = 0; code + 1 < kCodes; ++code) {
        const int even = code % 2 == 0 ? code : code + 1;
        CHECK_EQ(int{q.codes[kCodes + code]}, 0x80 | even, "of %g", double{weight[kCodes + code]});
    }
}

TARPON_TEST(test_linear_quantize_names_the_weight_it_cannot_take) {
    const Format formats[] = {{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC},
                              {TARPON_WEIGHT_INT8, TARPON_ZERO_INTEGER},
                              {TARPON_WEIGHT_INT8, TARPON_ZERO_FLOAT},
                              {TARPON_WEIGHT_FP8_E4M3, TARPON_ZERO_SYMMETRIC}};
    for (const Format &format : formats) {
        FormatLayer out = make_format_layer(format, 40, 256, Values::kRandom, 1);
        const tarpon_linear_desc desc = out.desc(TARPON_F32);
        void *zeros = out.zeros.empty() ? nullptr : out.zeros.data();
        std::vector<float> weight(40 * 256, 0.5f);
        const auto refused = [&](float value, const char *fragment) {
            weight[33 * 256 + 200] = value;
            CHECK_EQ(tarpon_weights_quantize(&desc, weight.data(), TARPON_F32, out.codes.data(),
                                             out.scales.data(), zeros),
                     TARPON_ERROR_INVALID_ARGUMENT, "%s", format.name().c_str());
            CHECK(std::strstr(tarpon_last_error(), fragment) != nullptr &&
                      std::strstr(tarpon_last_error(), "weight[33, ") != nullptr,
                  "%s: %s", format.name().c_str(), tarpon_last_error());
        };
        refused(NAN, "weight[33, 200] is nan, which is not finite");
        refused(-INFINITY, "weight[33, 200] is -inf");
        refused(1e9f, "needs a scale");
    }
    FormatLayer out = make_format_layer(formats[0], 8, 32, Values::kRandom, 1);
    const tarpon_linear_desc desc = out.desc(TARPON_F32);
    const std::vector<float> weight(8 * 32);
    CHECK_EQ(tarpon_weights_quantize(&desc, weight.data(), TARPON_U8, out.codes.data(),
                                     out.scales.data(), nullptr),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(tarpon_weights_quantize(&desc, weight.data(), TARPON_F32, out.codes.data(),
                                     out.scales.data(), out.codes.data()),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "SYMMETRIC weights have none") != nullptr, "%s",
          tarpon_last_error());
}

// ---- 2:4

TARPON_TEST(test_linear_prune_2_4_keeps_the_two_largest) {
    const int64_t n = 9, k = 43;
    for (tarpon_dtype dtype : kDtypes) {
        auto weight = make_weight(n, k, dtype, 13);
        // Ties of magnitude: the first two stay.
        for (int i = 0; i < 4; ++i)
            store(weight.data(), dtype, i, i % 2 ? -1.0f : 1.0f);
        auto pruned = weight;
        std::fill(pruned.begin(), pruned.end(), '\xff');
        REQUIRE(tarpon_prune_2_4(weight.data(), dtype, n, k, pruned.data()) == TARPON_OK, "%s",
                tarpon_last_error());
        for (int64_t row = 0; row < n; ++row) {
            for (int64_t k0 = 0; k0 < k; k0 += 4) {
                const int64_t count = std::min<int64_t>(4, k - k0);
                std::vector<std::pair<float, int64_t>> order;
                for (int64_t i = 0; i < count; ++i)
                    order.emplace_back(-std::fabs(load(weight.data(), dtype, row * k + k0 + i)), i);
                std::sort(order.begin(), order.end());
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t at = row * k + k0 + order[i].second;
                    const float want = i < 2 ? load(weight.data(), dtype, at) : 0.0f;
                    CHECK_EQ(load(pruned.data(), dtype, at), want, "%s [%lld, %lld]",
                             dtype_name(dtype), ll{row}, ll{k0 + order[i].second});
                }
            }
        }
        CHECK_EQ(load(pruned.data(), dtype, 0), 1.0f);
        CHECK_EQ(load(pruned.data(), dtype, 1), -1.0f);
        auto in_place = weight;
        REQUIRE(tarpon_prune_2_4(in_place.data(), dtype, n, k, in_place.data()) == TARPON_OK);
        CHECK(in_place == pruned, "%s in place", dtype_name(dtype));
    }
}

TARPON_TEST(test_linear_prune_2_4_makes_what_sparse_formats_take) {
    const Format sparse{TARPON_WEIGHT_INT4, TARPON_ZERO_SYMMETRIC, TARPON_SCALE_BF16, 64,
                        TARPON_SPARSITY_2_4};
    auto weight = make_weight(40, 130, TARPON_F32, 17);
    FormatLayer out = make_format_layer(sparse, 40, 130, Values::kRandom, 1);
    const tarpon_linear_desc desc = out.desc(TARPON_F32);
    CHECK_EQ(tarpon_weights_quantize(&desc, weight.data(), TARPON_F32, out.codes.data(),
                                     out.scales.data(), nullptr),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "2:4") != nullptr, "%s", tarpon_last_error());
    REQUIRE(tarpon_prune_2_4(weight.data(), TARPON_F32, 40, 130, weight.data()) == TARPON_OK);
    (void)quantize(sparse, 40, 130, weight, TARPON_F32);

    reinterpret_cast<float *>(weight.data())[3 * 130 + 5] = INFINITY;
    auto untouched = weight;
    CHECK_EQ(tarpon_prune_2_4(weight.data(), TARPON_F32, 40, 130, weight.data()),
             TARPON_ERROR_INVALID_ARGUMENT);
    CHECK(std::strstr(tarpon_last_error(), "weight[3, 5] is inf") != nullptr, "%s",
          tarpon_last_error());
    CHECK(weight == untouched, "a refused weight was written");
}

}  // namespace
}  // namespace tarpon::test
