// FP8 states against COAT's definition (Xi et al., section 4.1) in binary64: the power of every
// group, the codes, and what expansion is worth. Run alone: optim_fp8_test.
#include "optim/codec.h"
#include "optim_support.h"

namespace tarpon::test {
namespace {

constexpr int kGroup = 128;
constexpr double kLargest = 448, kSmallest = 2 / 448.0;  // E4M3's, as COAT counts its range

struct Range {
    double largest = 0, smallest = INFINITY;
};

Range range_of(const std::vector<double> &values, size_t first, size_t end) {
    Range range;
    for (size_t i = first; i < end; ++i) {
        const double magnitude = std::abs(values[i]);
        range.largest = std::max(range.largest, magnitude);
        if (magnitude > 0) range.smallest = std::min(range.smallest, magnitude);
    }
    return range;
}

// k in sixteenths, before it is rounded down: E4M3's dynamic range over the group's.
double expansion(const Range &range) {
    return 16 * std::log2(kLargest / kSmallest) / std::log2(range.largest / range.smallest);
}

std::vector<float> fp8_values() {
    std::vector<float> values(256);
    REQUIRE_OK(tarpon_code_map_values(TARPON_MAP_FP8_E4M3, values.data()));
    for (float &value : values)
        value *= 448;
    return values;
}

// What the paper's quantiser makes of x: sign(x) (|x| / s)^k / sigma, with s = sqrt(max min) and
// sigma such that the largest becomes 448, to the nearest E4M3 value, and back.
double quantised(double x, const Range &range, double k, const std::vector<float> &e4m3) {
    const double s = std::sqrt(range.largest * range.smallest);
    const double sigma = std::pow(range.largest / s, k) / kLargest;
    const double expanded = std::pow(std::abs(x) / s, k) / sigma;
    double best = 0;
    for (float value : e4m3) {
        if (value >= 0 && std::abs(value - expanded) < std::abs(best - expanded)) best = value;
    }
    return std::copysign(s * std::pow(best * sigma, 1 / k), x);
}

TARPON_TEST(test_optim_fp8_states_are_coats) {
    const std::vector<float> e4m3 = fp8_values();
    for (const OptimTarget &target : targets()) {
        // Groups that span less than E4M3, as much, and more: k above, at and below 1.
        for (const float spread : {0.02f, 0.5f, 3.0f, 6.0f}) {
            TensorSpec spec;
            spec.n = 1000;
            spec.format = TARPON_STATE_FP8;
            OptimTensor tensor(target.device.get(), TARPON_OPTIM_ADAM, spec,
                               std::vector<float>(size_t(spec.n), 0.0f));
            auto g = normal_values(spec.n, spread, 17);
            for (size_t i = 0; i < g.size(); ++i)
                g[i] = std::copysign(std::exp(g[i]), i % 3 ? 1.0f : -1.0f);
            g[200] = 0;
            tensor.set_grad(g);
            const OwnedOptim optim = make_optim(target, TARPON_OPTIM_ADAM, {&tensor});
            tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAM);
            args.beta1 = 0.5;
            REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
            std::vector<double> m;
            for (float value : g)
                m.push_back(0.5 * double(value));
            const auto codes = tensor.state[0].read();
            const auto scales = tensor.absmax[0].read_as<float>();
            int differing = 0;
            for (size_t first = 0; first < m.size(); first += kGroup) {
                const size_t end = std::min(first + kGroup, m.size());
                const Range range = range_of(m, first, end);
                const float absmax = scales[first / kGroup * 2];
                const float k = scales[first / kGroup * 2 + 1];
                const double exact = expansion(range);
                CHECK_EQ(absmax, float(range.largest), "%s", target.name.c_str());
                // Within rounding of an integer it may be rounded to either side.
                CHECK(k == float(std::floor(exact * (1 + 1e-6)) / 16) ||
                          k == float(std::floor(exact * (1 - 1e-6)) / 16) || exact > 256,
                      "%s spread %g group %zu: k is %g, COAT's %g", target.name.c_str(), spread,
                      first / kGroup, k, exact / 16);
                CHECK(k >= 1.0f / 16 && k <= 16, "%s: k is %g", target.name.c_str(), k);
                for (size_t i = first; i < end; ++i) {
                    const double stored = std::copysign(
                        std::pow(std::abs(e4m3[codes[i]]) / kLargest, 1 / double(k)) * absmax,
                        double(e4m3[codes[i]]));
                    const double want = quantised(m[i], range, k, e4m3);
                    // A value within rounding of two codes' midpoint may take either of them.
                    if (std::abs(stored - want) > 1e-5 * std::abs(want)) ++differing;
                }
                if (first <= 200 && 200 < end) {
                    CHECK_EQ(int(codes[200] & 127), 0, "%s: zero", target.name.c_str());
                }
            }
            CHECK(differing <= 2, "%s spread %g: %d of %zu values are not COAT's",
                  target.name.c_str(), spread, differing, m.size());
        }
    }
}

// Expansion is there for groups that span little: against plain E4M3 their error falls by more than
// half.
TARPON_TEST(test_optim_fp8_expansion_pays) {
    const std::vector<float> e4m3 = fp8_values();
    std::vector<double> values;
    for (float value : normal_values(kGroup * 50, 0.5f, 4))
        values.push_back(std::exp(double(value)));
    double plain = 0, expanded = 0;
    for (size_t first = 0; first < values.size(); first += kGroup) {
        const Range range = range_of(values, first, first + kGroup);
        const optim::Fp8Group group = optim::fp8_group(float(range.largest), float(range.smallest));
        CHECK(group.power > 2, "k is %g for values that span a factor of %g", group.power,
              range.largest / range.smallest);
        for (size_t i = first; i < first + kGroup; ++i) {
            plain += std::abs(quantised(values[i], range, 1, e4m3) / values[i] - 1);
            expanded += std::abs(quantised(values[i], range, group.power, e4m3) / values[i] - 1);
        }
    }
    CHECK(expanded < 0.5 * plain, "mean relative error %g with, %g without expansion",
          expanded / double(values.size()), plain / double(values.size()));
}

// Magnitudes of 1e-30 and 1e30 in one group, a group of equal values, of zeros, of one value.
TARPON_TEST(test_optim_fp8_groups_at_the_edges) {
    const struct {
        float largest, smallest, power;
    } kGroups[] = {
        {1e30f, 1e-30f, 1.0f / 16}, {2, 2, 16},  {0, INFINITY, 1}, {1, 1e-38f, 2.0f / 16},
        {448, 2 / 448.0f, 1},       {NAN, 1, 1}, {INFINITY, 1, 1}};
    for (const auto &g : kGroups) {
        const optim::Fp8Group group = optim::fp8_group(g.largest, g.smallest);
        CHECK_EQ(group.power, g.power, "%g to %g", g.smallest, g.largest);
    }
}

}  // namespace
}  // namespace tarpon::test
