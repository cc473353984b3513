// The optimizers' steps through the C ABI, on every device and variant that is here: each rule in
// each state format against binary64, started from the states as they are stored.
// Run alone: optim_step_test [--filter TEXT]
#include <map>

#include "optim/codec.h"
#include "optim_reference.h"
#include "optim_support.h"

namespace tarpon::test {
namespace {

constexpr const char *kRuleNames[] = {"Adam",    "AdamW",     "SGD",      "RMSprop",
                                      "Adagrad", "Lion",      "AdEMAMix", "LAMB",
                                      "LARS",    "AdaBelief", "Sophia-G", "SCALE"};
constexpr int kRuleCount = 12;

// Which map a slot's 8-bit states have.
tarpon_code_map map_of(tarpon_optim_rule rule, int slot) {
    const bool second_moment = rule == TARPON_OPTIM_RMSPROP || rule == TARPON_OPTIM_ADAGRAD ||
                               (rule == TARPON_OPTIM_ADEMAMIX ? slot == 2 : slot == 1);
    return second_moment ? TARPON_MAP_DYNAMIC_UNSIGNED : TARPON_MAP_DYNAMIC_SIGNED;
}

const std::vector<float> &map_values(tarpon_code_map map) {
    static std::map<tarpon_code_map, std::vector<float>> all;
    std::vector<float> &values = all[map];
    if (values.empty()) {
        values.resize(256);
        REQUIRE_OK(tarpon_code_map_values(map, values.data()));
    }
    return values;
}

// The states of a slot in binary64.
std::vector<double> decode_state(const OptimTensor &tensor, tarpon_optim_rule rule, int slot) {
    const TensorSpec &spec = tensor.spec;
    std::vector<double> out;
    if (tensor.state[slot].bytes() == 0) return out;
    if (spec.format == TARPON_STATE_F32) {
        for (float value : tensor.state[slot].read_as<float>())
            out.push_back(value);
        return out;
    }
    const auto codes = tensor.state[slot].read();
    const auto absmax = tensor.absmax[slot].read_as<float>();
    for (size_t i = 0; i < codes.size(); ++i) {
        if (spec.format == TARPON_STATE_DYNAMIC8) {
            out.push_back(double(map_values(map_of(rule, slot))[codes[i]]) * absmax[i / 256]);
            continue;
        }
        const double value = map_values(TARPON_MAP_FP8_E4M3)[codes[i]];
        const double power = absmax[i / 128 * 2 + 1];
        const double magnitude =
            value == 0 ? 0 : std::pow(std::abs(value), power > 0 ? 1 / power : 1);
        out.push_back(std::copysign(magnitude * absmax[i / 128 * 2], value));
    }
    return out;
}

// Half the distance between the codes around x, in units of absmax.
double half_gap(tarpon_code_map map, double x) {
    std::vector<float> sorted;
    for (float value : map_values(map)) {
        if (!std::isnan(value)) sorted.push_back(value);
    }
    std::sort(sorted.begin(), sorted.end());
    const auto above = std::upper_bound(sorted.begin(), sorted.end(), float(x));
    if (above == sorted.end()) return std::max(x - sorted.back(), 0.0);
    if (above == sorted.begin()) return sorted.front() - x;
    return (double(*above) - double(*(above - 1))) / 2;
}

// Stored states against the exact ones: half a code gap, and the rounding of the fp32 arithmetic.
void check_states(const OptimTensor &tensor, tarpon_optim_rule rule, int slot,
                  const std::vector<double> &exact, const std::vector<double> &magnitude,
                  const std::string &what) {
    const auto stored = decode_state(tensor, rule, slot);
    REQUIRE(stored.size() == exact.size(), "%s: %zu states", what.c_str(), stored.size());
    const tarpon_state_format format = tensor.spec.format;
    const auto scales = tensor.absmax[slot].read_as<float>();
    const size_t block = format == TARPON_STATE_FP8 ? 128 : 256;
    for (size_t i = 0; i < exact.size(); ++i) {
        const double rounding = 4e-7 * magnitude[i] + 1e-37;
        double tolerance = rounding;
        if (format != TARPON_STATE_F32) {
            const size_t first = i / block * block;
            double absmax = 0;
            for (size_t j = first; j < std::min(first + block, exact.size()); ++j)
                absmax = std::max(absmax, std::abs(exact[j]));
            const float stored_absmax = scales[i / block * (format == TARPON_STATE_FP8 ? 2 : 1)];
            if (i == first) {
                CHECK_NEAR(stored_absmax, absmax, 2e-6 * absmax + rounding, "%s slot %d block %zu",
                           what.c_str(), slot, i / block);
            }
            if (format == TARPON_STATE_DYNAMIC8) {
                const double x = absmax > 0 ? exact[i] / absmax : 0;
                tolerance =
                    (half_gap(map_of(rule, slot), x) * (1 + 1e-5) + 2e-6) * absmax + rounding;
            } else if (absmax > 0) {
                const double power = scales[i / block * 2 + 1];
                const double t = std::pow(std::abs(exact[i]) / absmax, power);
                const double gap = half_gap(TARPON_MAP_FP8_E4M3, t) * (1 + 1e-4) + 2e-6 * t + 1e-9;
                const double low = std::pow(std::max(t - gap, 0.0), 1 / power) * absmax;
                const double high = std::pow(t + gap, 1 / power) * absmax;
                tolerance =
                    std::max(std::abs(exact[i]) - low, high - std::abs(exact[i])) * (1 + 1e-5) +
                    rounding;
            }
        }
        if (!(std::abs(stored[i] - exact[i]) <= tolerance)) {
            CHECK_NEAR(stored[i], exact[i], tolerance, "%s slot %d [%zu]", what.c_str(), slot, i);
            return;
        }
    }
}

double ulp(double x, tarpon_dtype dtype) {
    const int bits = dtype == TARPON_F32 ? 23 : dtype == TARPON_F16 ? 10 : 7;
    const int smallest = dtype == TARPON_F16 ? -14 : -126;
    return std::ldexp(1.0, std::max(x == 0 ? smallest : std::ilogb(x), smallest) - bits);
}

// Whether a rule divides what may have cancelled to almost nothing: g + weight_decay * p, or in
// Sophia-G a mean by a small curvature.
bool may_cancel(tarpon_optim_rule rule) {
    return rule == TARPON_OPTIM_ADAM || rule == TARPON_OPTIM_SGD || rule == TARPON_OPTIM_RMSPROP ||
           rule == TARPON_OPTIM_ADAGRAD || rule == TARPON_OPTIM_LARS ||
           rule == TARPON_OPTIM_SOPHIAG;
}

// fp32: an ulp of p and 2e-6 of the step: of lr, or of |delta| where that is larger, since 8-bit
// second moments that underflow make steps of many lr; and what cancels. 16 bits: one rounding.
void check_params(const OptimTensor &tensor, tarpon_optim_rule rule,
                  const std::vector<double> &before, const ReferenceTensor &after, double lr,
                  const std::string &what) {
    const std::vector<double> &exact = after.p;
    const auto stored = tensor.params();
    const tarpon_dtype dtype = tensor.spec.param;
    for (size_t i = 0; i < exact.size(); ++i) {
        const double largest = std::max(std::abs(before[i]), std::abs(exact[i]));
        const double delta = std::abs(exact[i] - before[i]);
        double tolerance = ulp(largest, TARPON_F32) + 2e-6 * std::max(lr, delta);
        if (may_cancel(rule)) tolerance += 4e-7 * after.condition[i] * delta;
        if (dtype != TARPON_F32) tolerance += ulp(exact[i], dtype) / 2;
        if (!(std::abs(stored[i] - exact[i]) <= tolerance)) {
            CHECK_NEAR(stored[i], exact[i], tolerance, "%s p[%zu], was %.9g", what.c_str(), i,
                       before[i]);
            return;
        }
    }
    if (!tensor.spec.copy) return;
    const auto copy = widened(tensor.copy.read(), TARPON_BF16);
    for (size_t i = 0; i < exact.size(); ++i) {
        CHECK(copy[i] == to_float(from_float<bf16_t>(stored[i])), "%s copy[%zu] is %g of %g",
              what.c_str(), i, copy[i], stored[i]);
    }
}

tarpon_optim_step_args busy_args(tarpon_optim_rule rule) {
    tarpon_optim_step_args args = default_args(rule);
    args.lr = rule == TARPON_OPTIM_LARS ? 0.5 : 0.01;
    args.weight_decay = 0.1;
    args.grad_multiplier = 0.5;
    if (rule == TARPON_OPTIM_SGD) args.momentum = 0.9;
    if (rule == TARPON_OPTIM_ADEMAMIX) args.beta3 = 0.99;
    if (rule == TARPON_OPTIM_ADABELIEF) args.eps = 1e-8;
    if (rule == TARPON_OPTIM_SOPHIAG) args.hessian_scale = 30;
    return args;
}

ReferenceTensor reference_of(const OptimTensor &tensor, tarpon_optim_rule rule, double multiplier) {
    ReferenceTensor x;
    for (float p : tensor.params())
        x.p.push_back(p);
    for (float g : widened(tensor.grad.read(), tensor.spec.grad))
        x.g.push_back(double(g) * multiplier);
    for (int slot = 0; slot < 3; ++slot)
        x.state[slot] = decode_state(tensor, rule, slot);
    x.columns = tensor.spec.columns;
    x.momentum = tensor.spec.flags & TARPON_TENSOR_MOMENTUM;
    x.lr_factor = tensor.spec.lr_factor;
    x.decay_factor = tensor.spec.decay_factor;
    return x;
}

// Steps a list of tensors a few times, comparing every step.
void check_rule(const OptimTarget &target, tarpon_optim_rule rule,
                const std::vector<TensorSpec> &specs, tarpon_optim_step_args args, int steps) {
    std::vector<std::unique_ptr<OptimTensor>> owned;
    std::vector<OptimTensor *> tensors;
    for (size_t i = 0; i < specs.size(); ++i) {
        owned.push_back(std::make_unique<OptimTensor>(target.device.get(), rule, specs[i],
                                                      normal_values(specs[i].n, 0.05f, 7 + i)));
        tensors.push_back(owned.back().get());
    }
    const OwnedOptim optim = make_optim(target, rule, tensors);
    for (int t = 1; t <= steps; ++t) {
        double squares = 0;
        for (size_t i = 0; i < tensors.size(); ++i) {
            auto g = normal_values(specs[i].n, 0.02f * float(1 + i), 100 * t + i);
            for (size_t j = 0; j < g.size(); j += 5)
                g[j] *= j % 2 ? 30.0f : 1e-3f;
            tensors[i]->set_grad(g);
        }
        if (rule == TARPON_OPTIM_SOPHIAG) {
            std::vector<ReferenceTensor> before;
            for (const OptimTensor *tensor : tensors)
                before.push_back(reference_of(*tensor, rule, args.grad_multiplier));
            REQUIRE_OK(tarpon_optim_refresh_hessian(optim.get(), &args, nullptr));
            for (size_t i = 0; i < tensors.size(); ++i) {
                ReferenceTensor &x = before[i];
                for (size_t j = 0; j < x.p.size(); ++j) {
                    x.state[1][j] = args.beta2 * x.state[1][j] +
                                    (1 - args.beta2) * args.hessian_scale * x.g[j] * x.g[j];
                }
                check_states(*tensors[i], rule, 1, x.state[1], x.state[1],
                             target.name + " refreshed h");
            }
        }
        std::vector<ReferenceTensor> exact;
        for (const OptimTensor *tensor : tensors) {
            exact.push_back(reference_of(*tensor, rule, args.grad_multiplier));
            squares += norm2(exact.back().g) * norm2(exact.back().g);
        }
        if (args.max_grad_norm > 0) {
            const double clip = std::min(args.max_grad_norm / (std::sqrt(squares) + 1e-6), 1.0);
            for (ReferenceTensor &x : exact) {
                for (double &g : x.g)
                    g *= clip;
            }
        }
        REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
        for (size_t i = 0; i < tensors.size(); ++i) {
            const TensorSpec &spec = specs[i];
            const std::string what = target.name + " " + kRuleNames[rule] + " n " +
                                     std::to_string(spec.n) + " " + dtype_name(spec.param) + "/" +
                                     dtype_name(spec.grad) + " format " +
                                     std::to_string(spec.format) + " step " + std::to_string(t);
            const std::vector<double> before = exact[i].p;
            const std::vector<double> h = exact[i].state[1];
            reference_step(rule, args, t, exact[i]);
            check_params(*tensors[i], rule, before, exact[i], args.lr * spec.lr_factor, what);
            for (int slot = 0; slot < 3; ++slot) {
                if (exact[i].state[slot].empty()) continue;
                if (rule == TARPON_OPTIM_SOPHIAG && slot == 1) {
                    CHECK(decode_state(*tensors[i], rule, 1) == h, "%s: the step changed h",
                          what.c_str());
                    continue;
                }
                check_states(*tensors[i], rule, slot, exact[i].state[slot],
                             exact[i].magnitude[slot], what);
            }
        }
        if (args.max_grad_norm > 0) {
            CHECK_NEAR(counters_of(optim).grad_norm, std::sqrt(squares), 1e-6 * std::sqrt(squares),
                       "%s", target.name.c_str());
        }
    }
    CHECK_EQ(counters_of(optim).step, steps, "%s", target.name.c_str());
}

std::vector<tarpon_state_format> formats_of(tarpon_optim_rule rule) {
    if (rule == TARPON_OPTIM_ADAM || rule == TARPON_OPTIM_ADAMW) {
        return {TARPON_STATE_F32, TARPON_STATE_DYNAMIC8, TARPON_STATE_FP8};
    }
    return {TARPON_STATE_F32, TARPON_STATE_DYNAMIC8};
}

TARPON_TEST(test_optim_every_rule_matches_binary64) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            for (tarpon_state_format format : formats_of(rule)) {
                std::vector<TensorSpec> specs;
                for (int64_t n : {1, 63, 64, 255, 256, 257, 1000, 5000}) {
                    TensorSpec spec;
                    spec.n = n;
                    spec.format = format;
                    spec.columns = n == 1000 ? 40 : n == 5000 ? 500 : 1;
                    spec.flags = rule == TARPON_OPTIM_SCALE && n % 2 ? TARPON_TENSOR_MOMENTUM : 0;
                    specs.push_back(spec);
                }
                check_rule(target, rule, specs, busy_args(rule), target.slow ? 2 : 4);
            }
        }
    }
}

TARPON_TEST(test_optim_every_dtype_matches_binary64) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule : {TARPON_OPTIM_ADAMW, TARPON_OPTIM_SGD, TARPON_OPTIM_LAMB}) {
            std::vector<TensorSpec> specs;
            for (tarpon_dtype param : {TARPON_F32, TARPON_BF16, TARPON_F16}) {
                for (tarpon_dtype grad : {TARPON_F32, TARPON_BF16, TARPON_F16}) {
                    for (tarpon_state_format format : {TARPON_STATE_F32, TARPON_STATE_DYNAMIC8}) {
                        TensorSpec spec;
                        spec.n = 777;
                        spec.param = param;
                        spec.grad = grad;
                        spec.format = format;
                        spec.copy = param == TARPON_F32;
                        spec.lr_factor = 0.5 + format;
                        spec.decay_factor = param == TARPON_F16 ? 0 : 1;
                        specs.push_back(spec);
                    }
                }
            }
            check_rule(target, rule, specs, busy_args(rule), 2);
        }
    }
}

TARPON_TEST(test_optim_clips_the_global_norm) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            std::vector<TensorSpec> specs(3);
            specs[1].n = 20000;
            specs[1].format = TARPON_STATE_F32;
            specs[2].n = 300;
            tarpon_optim_step_args args = busy_args(rule);
            args.max_grad_norm = 0.7;
            args.flags = TARPON_STEP_SKIP_NONFINITE | TARPON_STEP_NESTEROV;
            check_rule(target, rule, specs, args, 2);
        }
    }
}

// Everything that a step may change.
std::vector<std::vector<uint8_t>> contents(const OptimTensor &tensor) {
    std::vector<std::vector<uint8_t>> all{tensor.param.read(), tensor.copy.read()};
    for (int slot = 0; slot < 3; ++slot) {
        all.push_back(tensor.state[slot].read());
        all.push_back(tensor.absmax[slot].read());
    }
    return all;
}

TARPON_TEST(test_optim_zero_gradient_never_moves) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            for (tarpon_state_format format : formats_of(rule)) {
                TensorSpec spec;
                spec.n = 1030;
                spec.format = format;
                spec.flags = rule == TARPON_OPTIM_SCALE ? TARPON_TENSOR_MOMENTUM : 0;
                const auto start = normal_values(spec.n, 1, 3);
                OptimTensor tensor(target.device.get(), rule, spec, start);
                const OwnedOptim optim = make_optim(target, rule, {&tensor});
                tarpon_optim_step_args args = default_args(rule);
                if (rule == TARPON_OPTIM_SGD) args.momentum = 0.9;
                args.weight_decay = 0;
                for (int t = 0; t < (target.slow ? 3 : 20); ++t) {
                    auto g = normal_values(spec.n, 1, 50 + t);
                    for (size_t i = 0; i < g.size(); i += 3)
                        g[i] = 0;
                    tensor.set_grad(g);
                    REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                }
                const auto p = tensor.params();
                size_t moved = 0;
                for (size_t i = 0; i < p.size(); ++i) {
                    if (i % 3 == 0) {
                        CHECK(p[i] == start[i], "%s %s: p[%zu] drifted from %.9g to %.9g",
                              target.name.c_str(), kRuleNames[rule], i, start[i], p[i]);
                    } else {
                        moved += p[i] != start[i];
                    }
                }
                CHECK(moved > p.size() / 2, "%s %s moved %zu", target.name.c_str(),
                      kRuleNames[rule], moved);
            }
        }
    }
}

// Negated parameters and gradients give negated results: bit for bit in the first step. (Later,
// an 8-bit state exactly between two codes takes the lower one for both signs.)
TARPON_TEST(test_optim_sign_symmetry) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            for (tarpon_state_format format : formats_of(rule)) {
                TensorSpec spec;
                spec.n = 2000;
                spec.format = format;
                auto p = normal_values(spec.n, 1, 4), g = normal_values(spec.n, 1, 5);
                std::vector<float> results[2];
                for (auto &result : results) {
                    OptimTensor tensor(target.device.get(), rule, spec, p);
                    tensor.set_grad(g);
                    const OwnedOptim optim = make_optim(target, rule, {&tensor});
                    const tarpon_optim_step_args args = busy_args(rule);
                    REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                    result = tensor.params();
                    for (float &x : p)
                        x = -x;
                    for (float &x : g)
                        x = -x;
                }
                for (size_t i = 0; i < p.size(); ++i) {
                    CHECK(results[0][i] == -results[1][i], "%s %s [%zu]: %.9g and %.9g",
                          target.name.c_str(), kRuleNames[rule], i, results[0][i], results[1][i]);
                }
            }
        }
    }
}

TARPON_TEST(test_optim_nonfinite_gradient_skips_the_step) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            for (float poison : {NAN, INFINITY, -INFINITY, 0x1p61f}) {
                TensorSpec spec;
                spec.n = 1500;
                spec.copy = true;
                OptimTensor clean(target.device.get(), rule, spec, normal_values(spec.n, 1, 4));
                OptimTensor poisoned(target.device.get(), rule, spec, normal_values(spec.n, 1, 6));
                const OwnedOptim optim = make_optim(target, rule, {&clean, &poisoned});
                tarpon_optim_step_args args = default_args(rule);
                args.flags = TARPON_STEP_SKIP_NONFINITE;
                clean.set_grad(normal_values(spec.n, 1, 8));
                poisoned.set_grad(normal_values(spec.n, 1, 9));
                REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                auto g = normal_values(spec.n, 1, 10);
                g[1400] = poison;
                poisoned.set_grad(g);
                const auto before = contents(clean), before_poisoned = contents(poisoned);
                REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                CHECK(contents(clean) == before && contents(poisoned) == before_poisoned,
                      "%s %s: a skipped step changed something", target.name.c_str(),
                      kRuleNames[rule]);
                tarpon_optim_counters counters = counters_of(optim);
                CHECK_EQ(counters.step, 1, "%s", kRuleNames[rule]);
                CHECK_EQ(counters.skipped_steps, 1, "%s", kRuleNames[rule]);
                poisoned.set_grad(normal_values(spec.n, 1, 11));
                REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                CHECK_EQ(counters_of(optim).step, 2, "%s", kRuleNames[rule]);
                CHECK(contents(clean) != before, "%s: the step after it did nothing",
                      kRuleNames[rule]);
            }
        }
    }
}

// In one pass: the block with the bad gradient stays, and all else steps.
TARPON_TEST(test_optim_nonfinite_gradient_skips_its_block) {
    for (const OptimTarget &target : targets()) {
        TensorSpec spec;
        spec.n = 1500;
        const auto start = normal_values(spec.n, 1, 4);
        OptimTensor tensor(target.device.get(), TARPON_OPTIM_ADAMW, spec, start);
        const OwnedOptim optim = make_optim(target, TARPON_OPTIM_ADAMW, {&tensor});
        auto g = normal_values(spec.n, 1, 10);
        g[300] = NAN;
        tensor.set_grad(g);
        const tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAMW);
        REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
        const auto p = tensor.params();
        for (size_t i = 0; i < p.size(); ++i) {
            CHECK((p[i] == start[i]) == (i / 256 == 1), "%s p[%zu] went from %g to %g",
                  target.name.c_str(), i, start[i], p[i]);
        }
        CHECK_EQ(counters_of(optim).skipped_blocks, 1, "%s", target.name.c_str());
        CHECK_EQ(counters_of(optim).step, 1, "%s", target.name.c_str());
    }
}

// A bf16 parameter that steps of a tenth of its ulp cannot move to nearest moves on average.
TARPON_TEST(test_optim_stochastic_rounding_is_unbiased_and_seeded) {
    for (const OptimTarget &target : targets()) {
        TensorSpec spec;
        spec.n = 4000;
        spec.param = TARPON_BF16;
        const int steps = target.slow ? 4 : 40;
        tarpon_optim_step_args args = default_args(TARPON_OPTIM_SGD);
        args.momentum = 0;
        args.lr = 0x1p-7 / 10;  // the ulp of bf16 in [1, 2) is 2^-7
        std::vector<std::vector<float>> results;
        for (uint64_t seed : {1, 1, 2}) {
            OptimTensor tensor(target.device.get(), TARPON_OPTIM_SGD, spec,
                               std::vector<float>(spec.n, 1.5f));
            tensor.set_grad(std::vector<float>(spec.n, -1));
            const OwnedOptim optim = make_optim(target, TARPON_OPTIM_SGD, {&tensor});
            args.flags = TARPON_STEP_STOCHASTIC_PARAMS;
            args.seed = seed;
            for (int t = 0; t < steps; ++t)
                REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
            results.push_back(tensor.params());
            double mean = 0;
            for (float p : results.back())
                mean += p / double(spec.n);
            // One element's steps have a deviation of 0.3 ulp each.
            const double deviation = 0.3 * 0x1p-7 * std::sqrt(double(steps) / double(spec.n));
            CHECK_NEAR(mean, 1.5 + steps * args.lr, 5 * deviation, "%s", target.name.c_str());
        }
        CHECK(results[0] == results[1], "%s: one seed, two results", target.name.c_str());
        CHECK(results[0] != results[2], "%s: two seeds, one result", target.name.c_str());
    }
}

TARPON_TEST(test_optim_stochastic_states_are_unbiased) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_state_format format : {TARPON_STATE_DYNAMIC8, TARPON_STATE_FP8}) {
            TensorSpec spec;
            spec.n = 25600;
            spec.format = format;
            OptimTensor tensor(target.device.get(), TARPON_OPTIM_ADAM, spec,
                               std::vector<float>(spec.n, 0.0f));
            std::vector<float> g(spec.n, 0.3137f);
            for (size_t i = 0; i < g.size(); i += 128)
                g[i] = 1;  // the absmax of every group
            tensor.set_grad(g);
            const OwnedOptim optim = make_optim(target, TARPON_OPTIM_ADAM, {&tensor});
            tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAM);
            args.flags = TARPON_STEP_STOCHASTIC_STATES;
            REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
            const auto m = decode_state(tensor, TARPON_OPTIM_ADAM, 0);
            double mean = 0;
            int64_t count = 0;
            std::map<double, int> values;
            for (size_t i = 0; i < m.size(); ++i) {
                if (i % 128 == 0) continue;
                mean += m[i];
                ++count;
                ++values[m[i]];
            }
            CHECK_EQ(int(values.size()), 2, "%s format %d", target.name.c_str(), format);
            // Gaps are at most 6% here; expanded values are rounded in the expanded domain, whose
            // curvature leaves a bias of a small part of a gap.
            CHECK_NEAR(mean / double(count), 0.1 * 0.3137, 0.1 * 0.3137 * 2e-3, "%s format %d",
                       target.name.c_str(), format);
        }
    }
}

// All variants of the CPU give the same bits, whatever the number of threads.
TARPON_TEST(test_optim_cpu_variants_are_bit_equal) {
    for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
        for (tarpon_state_format format : formats_of(rule)) {
            for (int32_t flags :
                 {0, TARPON_STEP_STOCHASTIC_PARAMS | TARPON_STEP_STOCHASTIC_STATES}) {
                std::vector<std::vector<std::vector<uint8_t>>> all;
                std::vector<std::string> names;
                for (const OptimTarget &target : targets()) {
                    if (target.name.rfind("cpu", 0) != 0) continue;
                    for (int threads : {1, 3}) {
                        tarpon_device_options options{sizeof options, threads};
                        tarpon_device *device = nullptr;
                        REQUIRE_OK(tarpon_device_open(TARPON_DEVICE_CPU, 0, &options, &device));
                        OptimTarget local{Owned<tarpon_device>(device), "", target.variant, false};
                        TensorSpec spec;
                        spec.n = 40000 + 77;
                        spec.param = flags ? TARPON_BF16 : TARPON_F32;
                        spec.grad = TARPON_BF16;
                        spec.format = format;
                        spec.columns = 91;
                        spec.n -= spec.n % spec.columns;
                        OptimTensor tensor(device, rule, spec, normal_values(spec.n, 1, 4));
                        const OwnedOptim optim = make_optim(local, rule, {&tensor});
                        tarpon_optim_step_args args = busy_args(rule);
                        args.flags = flags;
                        args.max_grad_norm = 10;
                        for (int t = 0; t < 3; ++t) {
                            tensor.set_grad(normal_values(spec.n, 1, 60 + t));
                            REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                        }
                        all.push_back(contents(tensor));
                        names.push_back(target.name + " threads " + std::to_string(threads));
                    }
                }
                for (size_t i = 1; i < all.size(); ++i) {
                    CHECK(all[i] == all[0], "%s format %d flags %d: %s differs from %s",
                          kRuleNames[rule], format, flags, names[i].c_str(), names[0].c_str());
                }
            }
        }
    }
}

// CPU, simulator and GPU give the same bits, except where norms enter, which they add up in
// different orders.
TARPON_TEST(test_optim_devices_are_bit_equal) {
    for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
        if (rule == TARPON_OPTIM_LAMB || rule == TARPON_OPTIM_LARS || rule == TARPON_OPTIM_SCALE) {
            continue;
        }
        for (tarpon_state_format format : formats_of(rule)) {
            for (int32_t flags :
                 {0, TARPON_STEP_STOCHASTIC_PARAMS | TARPON_STEP_STOCHASTIC_STATES}) {
                std::vector<std::vector<std::vector<uint8_t>>> all;
                for (const OptimTarget &target : targets()) {
                    TensorSpec spec;
                    spec.n = 17000 + 77;
                    spec.param = flags ? TARPON_BF16 : TARPON_F32;
                    spec.grad = TARPON_F16;
                    spec.format = format;
                    spec.copy = true;
                    OptimTensor tensor(target.device.get(), rule, spec,
                                       normal_values(spec.n, 1, 4));
                    const OwnedOptim optim = make_optim(target, rule, {&tensor});
                    tarpon_optim_step_args args = busy_args(rule);
                    args.flags = flags;
                    for (int t = 0; t < 3; ++t) {
                        tensor.set_grad(normal_values(spec.n, 1, 60 + t));
                        REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                    }
                    all.push_back(contents(tensor));
                    CHECK(all.back() == all.front(), "%s format %d flags %d: %s differs from %s",
                          kRuleNames[rule], format, flags, target.name.c_str(),
                          targets().front().name.c_str());
                }
            }
        }
    }
}

// States, parameters and counters copied to a new plan go on as if nothing had happened.
TARPON_TEST(test_optim_resumes_bit_exactly) {
    for (const OptimTarget &target : targets()) {
        for (tarpon_optim_rule rule = 0; rule < kRuleCount; ++rule) {
            TensorSpec spec;
            spec.n = 1111;
            spec.flags = rule == TARPON_OPTIM_SCALE ? TARPON_TENSOR_MOMENTUM : 0;
            OptimTensor straight(target.device.get(), rule, spec, normal_values(spec.n, 1, 4));
            OwnedOptim optim = make_optim(target, rule, {&straight});
            OptimTensor resumed(target.device.get(), rule, spec, normal_values(spec.n, 1, 5));
            const tarpon_optim_step_args args = busy_args(rule);
            OwnedOptim second;
            for (int t = 0; t < 6; ++t) {
                straight.set_grad(normal_values(spec.n, 1, 80 + t));
                if (t == 3) {
                    resumed.param.write(straight.param.read().data());
                    for (int slot = 0; slot < 3; ++slot) {
                        if (straight.state[slot].bytes() == 0) continue;
                        resumed.state[slot].write(straight.state[slot].read().data());
                        resumed.absmax[slot].write(straight.absmax[slot].read().data());
                    }
                    second = make_optim(target, rule, {&resumed});
                    const tarpon_optim_counters counters = counters_of(optim);
                    REQUIRE_OK(tarpon_optim_set_counters(second.get(), &counters, nullptr));
                }
                REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                if (t < 3) continue;
                resumed.set_grad(normal_values(spec.n, 1, 80 + t));
                REQUIRE_OK(tarpon_optim_step(second.get(), &args, nullptr));
            }
            CHECK(contents(straight) == contents(resumed), "%s %s", target.name.c_str(),
                  kRuleNames[rule]);
        }
    }
}

}  // namespace
}  // namespace tarpon::test
