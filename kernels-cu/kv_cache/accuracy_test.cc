// The accuracy suite on synthetic keys and values: what each scheme does to attention at equal bits,
// against bounds that fail the build. Alone: ctest -R kv_accuracy -V (prints the table)
//
// The data, seeded, has what makes real caches hard. Keys before RoPE have a few channels a head whose
// mean is far from zero, some of them in the pairs that turn slowly; values are Gaussian with a few
// channels louder. The first tokens are attention sinks: their keys and values are next to nothing,
// and queries lean against the slow outlier channels, so that every other token scores low, attention
// rests on the sinks, and true outputs are small. Errors in scores wake the others up.
// Calibration statistics come from other tokens than those measured.
#include <cstdio>
#include <functional>

#include "kv_cache/peers.h"
#include "kv_cache/ref.h"
#include "testing/random.h"
#include "testing/test.h"

namespace tarpon::kv_cache {
namespace {

using testing::Random;

constexpr int kHeads = 4, kDim = 128, kChannels = kHeads * kDim, kTokens = 1024;
constexpr int kQueriesPerHead = 16;
constexpr int kSinks = 4;
constexpr double kSinkNorm = 0.05;  // of keys and values, against 1 of other tokens
constexpr double kQueryLean = 3.0;  // against slow outlier channels
constexpr double kQueryNoise = 0.8;
constexpr int kOutliers = 4, kSlowOutliers = 3, kSlowPairs = 16;
const RopeRule kRope{1e4, 1, kDim / 2, RopeLayout::kHalf};
const AttentionRule kAttention{1 / std::sqrt(double{kDim})};

struct Model {
    std::vector<float> mean, sigma;  // [channels] of keys
    std::vector<float> v_sigma;
    std::vector<float> q_mean;
    bool sinks;
};

Model make_model(bool outliers) {
    Random random(11);
    Model model{std::vector<float>(kChannels), std::vector<float>(kChannels, 1.0f),
                std::vector<float>(kChannels, 1.0f), std::vector<float>(kChannels), outliers};
    for (int c = 0; c < kChannels && outliers; ++c)
        model.mean[c] = float(0.5 * random.normal());
    for (int head = 0; head < kHeads && outliers; ++head) {
        for (int i = 0; i < kOutliers + kSlowOutliers; ++i) {
            const bool slow = i >= kOutliers;
            const int in_head = slow ? int(random.integer(1, 2)) * kDim / 2 - 1 -
                                           int(random.integer(0, kSlowPairs - 1))
                                     : int(random.integer(0, kDim - 1));
            const int c = head * kDim + in_head;
            const double sign = random.uniform() < 0.5 ? -1 : 1;
            model.mean[c] = float(sign * random.uniform(8, 14));
            model.sigma[c] = 1.5f;
            model.q_mean[c] = slow ? float(-sign * kQueryLean) : 0.0f;
        }
        for (int i = 0; i < 3; ++i)
            model.v_sigma[head * kDim + random.integer(0, kDim - 1)] = 3.0f;
    }
    return model;
}

struct Data {
    std::vector<float> k, v;  // [tokens][channels], k before RoPE
    std::vector<float> q;  // [heads][kQueriesPerHead][dim], before RoPE, all at the last position
};

Data draw(const Model &model, int tokens, uint64_t seed) {
    Random random(seed);
    Data data;
    for (int t = 0; t < tokens; ++t) {
        const double norm = model.sinks && t < kSinks ? kSinkNorm : 1;
        for (int c = 0; c < kChannels; ++c) {
            data.k.push_back(float(norm * (model.mean[c] + model.sigma[c] * random.normal())));
            data.v.push_back(float(norm * model.v_sigma[c] * random.normal()));
        }
    }
    for (int head = 0; head < kHeads; ++head) {
        for (int i = 0; i < kQueriesPerHead * kDim; ++i) {
            const double mean = model.q_mean[head * kDim + i % kDim];
            data.q.push_back(float(mean + kQueryNoise * random.normal()));
        }
    }
    return data;
}

struct Tables {
    std::vector<CosSin> low, high;
    RopeTables view;
    Tables() {
        for (int p = 0; p < kRopeDigit; ++p) {
            for (int pair = 0; pair < kDim / 2; ++pair) {
                low.push_back(rope_table_entry(kRope.theta, 1, kDim / 2, p, pair));
                high.push_back(
                    rope_table_entry(kRope.theta, 1, kDim / 2, int64_t{p} * kRopeDigit, pair));
            }
        }
        view = {low.data(), high.data(), kDim / 2, RopeLayout::kHalf};
    }
};

const Tables &tables() {
    static const Tables all;
    return all;
}

void rope_all(std::vector<float> &k) {
    for (size_t i = 0; i < k.size(); i += kDim)
        rope(tables().view, int(i / kChannels), &k[i]);
}

// Calibration: means of keys, and RotateKV's order (ascending sums of the rotated keys).
std::vector<float> calibrate_mean(const Data &data) {
    std::vector<double> sums(kChannels);
    for (size_t i = 0; i < data.k.size(); ++i)
        sums[i % kChannels] += data.k[i];
    std::vector<float> mean(kChannels);
    for (int c = 0; c < kChannels; ++c)
        mean[c] = float(sums[c] * kChannels / double(data.k.size()));
    return mean;
}

std::vector<int32_t> calibrate_order(const Data &data) {
    std::vector<int32_t> order(kChannels), same(kChannels);
    for (int c = 0; c < kChannels; ++c)
        order[c] = same[c] = c;
    std::vector<float> rotated(kChannels), out(kChannels);
    std::vector<double> sums(kChannels);
    for (size_t i = 0; i < data.k.size(); i += kChannels) {
        rotatekv_transform(&data.k[i], same.data(), kHeads, kDim, 4, rotated.data(), out.data());
        for (int c = 0; c < kChannels; ++c)
            sums[c] += rotated[c];
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return sums[a] < sums[b]; });
    return order;
}

// Mode tarpon through pages of the cache, back as keys after RoPE and plain values.
double tarpon_round_trip(const std::vector<float> &mean, int k_bits, int v_bits,
                         std::vector<float> &k, std::vector<float> &v) {
    const Format f{kDim, kHeads, 64, k_bits, v_bits};
    std::vector<uint8_t> page(page_bytes(f));
    const int tokens = int(k.size() / kChannels);
    for (int t = 0; t < tokens; ++t) {
        for (int head = 0; head < kHeads; ++head) {
            uint8_t *block = page.data() + head * block_layout(f).bytes;
            float *key = &k[(int64_t{t} * kHeads + head) * kDim];
            float *value = &v[(int64_t{t} * kHeads + head) * kDim];
            transform_key(tables().view, &mean[head * kDim], kDim, t, key);
            hadamard::transform_reference(value, kDim);
            store_key(block, f, t % f.page_tokens, key);
            store_value(block, f, t % f.page_tokens, value);
            load_key(block, f, t % f.page_tokens, key);
            load_value(block, f, t % f.page_tokens, value);
            hadamard::transform_reference(key, kDim);
            hadamard::transform_reference(value, kDim);
            std::vector<float> turned(&mean[head * kDim], &mean[head * kDim] + kDim);
            rope(tables().view, t, turned.data());
            for (int i = 0; i < kDim; ++i)
                key[i] += turned[i];
        }
    }
    return bits_per_value(f);
}

double relative_squared_error(const std::vector<double> &got, const std::vector<double> &want) {
    double error = 0, square = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        square += want[i] * want[i];
    }
    return error / square;
}

double relative_squared_error(const std::vector<float> &got, const std::vector<float> &want) {
    return relative_squared_error(std::vector<double>(got.begin(), got.end()),
                                  std::vector<double>(want.begin(), want.end()));
}

// Outputs of all queries over keys after RoPE.
std::vector<double> attend_all(const Data &data, const std::vector<float> &k,
                               const std::vector<float> &v) {
    std::vector<double> outputs;
    for (int head = 0; head < kHeads; ++head) {
        std::vector<double> keys, values, out(kDim);
        for (int t = 0; t < kTokens; ++t) {
            const size_t row = (size_t(t) * kHeads + head) * kDim;
            keys.insert(keys.end(), &k[row], &k[row] + kDim);
            values.insert(values.end(), &v[row], &v[row] + kDim);
        }
        for (int i = 0; i < kQueriesPerHead; ++i) {
            const float *from = &data.q[(head * kQueriesPerHead + i) * kDim];
            std::vector<double> q(from, from + kDim);
            rope_exact(kRope, kTokens - 1, q.data());
            attend_plain(q.data(), kTokens - 1, keys.data(), values.data(), kTokens, kDim,
                         kAttention, out.data());
            outputs.insert(outputs.end(), out.begin(), out.end());
        }
    }
    return outputs;
}

struct Result {
    double bits, k_error, v_error, output_error;
};

// Runs every scheme at one width over the outlier data, each as its paper has it: RotateKV and
// Tarpon keep the sinks in 16 bits, counted in their bits a value; the others keep none.
struct Comparison {
    Result fp16, plain, kivi, quarot, rotatekv, tarpon;
};

Comparison compare_schemes(int bits) {
    const Model model = make_model(true);
    const Data calibration = draw(model, 512, 21), data = draw(model, kTokens, 22);
    const auto mean = calibrate_mean(calibration);
    const auto order = calibrate_order(calibration);
    std::vector<float> exact_k = data.k;
    rope_all(exact_k);
    const auto exact = attend_all(data, exact_k, data.v);
    const auto measure =
        [&](const std::function<double(std::vector<float> &, std::vector<float> &)> &f,
            bool before_rope, bool keeps_sinks) {
            std::vector<float> k = before_rope ? data.k : exact_k, v = data.v;
            Result r{};
            r.bits = f(k, v);
            if (keeps_sinks) {
                std::copy_n(exact_k.begin(), kSinks * kChannels, k.begin());
                std::copy_n(data.v.begin(), kSinks * kChannels, v.begin());
                r.bits += (16 - r.bits) * kSinks / kTokens;
            }
            r.k_error = relative_squared_error(k, exact_k);
            r.v_error = relative_squared_error(v, data.v);
            r.output_error = std::sqrt(relative_squared_error(attend_all(data, k, v), exact));
            return r;
        };
    using V = std::vector<float> &;
    Comparison c;
    c.fp16 = measure([&](V k, V v) { return tarpon_round_trip(mean, 16, 16, k, v); }, true, false);
    c.plain = measure([&](V k, V v) { return (peers::plain(k, bits) + peers::plain(v, bits)) / 2; },
                      false, false);
    c.kivi = measure(
        [&](V k, V v) {
            return (peers::kivi_keys(k, kTokens, kChannels, bits) + peers::plain(v, bits)) / 2;
        },
        false, false);
    c.quarot = measure(
        [&](V k, V v) { return (peers::quarot(k, kDim, bits) + peers::quarot(v, kDim, bits)) / 2; },
        false, false);
    c.rotatekv = measure(
        [&](V k, V v) {
            const double k_bits = peers::rotatekv_keys(k, order, kTokens, kHeads, kDim, bits);
            rope_all(k);
            return (k_bits + peers::rotatekv_values(v, kDim, bits)) / 2;
        },
        true, true);
    c.tarpon =
        measure([&](V k, V v) { return tarpon_round_trip(mean, bits, bits, k, v); }, true, true);
    return c;
}

void print_row(const char *name, const Result &r) {
    std::printf("  %-18s %6.3f   %8.5f  %8.5f  %8.4f\n", name, r.bits, r.k_error, r.v_error,
                r.output_error);
}

void print(int bits, const Comparison &c) {
    std::printf(
        "outlier data, %d bits:\n  scheme             bits/value  K rel.MSE  V rel.MSE  output "
        "error\n",
        bits);
    print_row("16 bits", c.fp16);
    print_row("plain per token", c.plain);
    print_row("KIVI", c.kivi);
    print_row("QuaRot-style", c.quarot);
    print_row("rotatekv", c.rotatekv);
    print_row("tarpon", c.tarpon);
}

TARPON_TEST(test_kv_values_on_gaussian_data) {
    const Data data = draw(make_model(false), kTokens, 31);
    const std::vector<float> no_mean(kChannels);
    // 0.125 is the bar of the design; the others are 4% above what was measured.
    const struct {
        int bits;
        double most, bits_per_value;
    } cases[] = {{2, 0.125, 2.125},
                 {3, 0.0375, 3.125},
                 {4, 0.0108, 4.125},
                 {8, 5e-5, 8.125},
                 {16, 1e-6, 16}};
    for (const auto &c : cases) {
        std::vector<float> k = data.k, v = data.v;
        const double bits = tarpon_round_trip(no_mean, c.bits, c.bits, k, v);
        const double error = relative_squared_error(v, data.v);
        std::printf("Gaussian V, %2d bits: %.3f bits a value, relative MSE %.6f\n", c.bits, bits,
                    error);
        CHECK(error <= c.most, "%d bits: relative MSE %.6f, bound %.6f", c.bits, error, c.most);
        CHECK_NEAR(bits, c.bits_per_value, 1e-9, "%d bits", c.bits);
    }
}

TARPON_TEST(test_kv_outputs_on_outlier_data_2_bits) {
    const Comparison c = compare_schemes(2);
    print(2, c);
    CHECK(c.tarpon.bits <= 2.25, "%.3f bits a value", c.tarpon.bits);
    CHECK(c.tarpon.output_error <= 0.424, "%.4f, 8%% above what was measured",
          c.tarpon.output_error);
    CHECK(c.fp16.output_error <= 1e-3, "16 bits: %.3g", c.fp16.output_error);
    // The bars of the design.
    CHECK(c.tarpon.output_error <= 0.60 * c.kivi.output_error, "tarpon %.4f, KIVI %.4f",
          c.tarpon.output_error, c.kivi.output_error);
    CHECK(c.tarpon.output_error <= 0.10 * c.plain.output_error, "tarpon %.4f, plain %.4f",
          c.tarpon.output_error, c.plain.output_error);
    CHECK(c.tarpon.output_error <= 0.85 * c.rotatekv.output_error, "tarpon %.4f, rotatekv %.4f",
          c.tarpon.output_error, c.rotatekv.output_error);
}

// With more bits clipping matters less and the schemes draw closer; the absolute bounds are 8% above
// what was measured.
TARPON_TEST(test_kv_outputs_on_outlier_data_3_and_4_bits) {
    const struct {
        int bits;
        double of_rotatekv, of_kivi, most;
    } cases[] = {{3, 0.85, 0.60, 0.234}, {4, 0.90, 0.72, 0.126}};
    for (const auto &bound : cases) {
        const Comparison c = compare_schemes(bound.bits);
        print(bound.bits, c);
        const double error = c.tarpon.output_error;
        CHECK(error <= bound.of_rotatekv * c.rotatekv.output_error, "%d bits: %.4f, rotatekv %.4f",
              bound.bits, error, c.rotatekv.output_error);
        CHECK(error <= bound.of_kivi * c.kivi.output_error, "%d bits: %.4f, KIVI %.4f", bound.bits,
              error, c.kivi.output_error);
        CHECK(error <= bound.most, "%d bits: %.4f", bound.bits, error);
    }
}

}  // namespace
}  // namespace tarpon::kv_cache
