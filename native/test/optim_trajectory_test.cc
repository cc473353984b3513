// Twenty steps on recorded gradients against the trajectories of a reference implementation
// (golden files), and the edges of the C ABI's optimizers. Run alone: optim_trajectory_test
#include "optim_golden.h"
#include "optim_support.h"

namespace tarpon::test {
namespace {

struct Case {
    const char *file;
    tarpon_optim_rule rule;
    double lr, beta2, weight_decay, eps;
    // The reference keeps second moments of these in the signed map, which wastes a bit: its own
    // trajectory is an upper bound for the error, not a target.
    bool coarser_reference;
};

constexpr Case kCases[] = {
    {"adam", TARPON_OPTIM_ADAM, 1e-3, 0.999, 0, 1e-8, false},
    {"adamw", TARPON_OPTIM_ADAMW, 1e-3, 0.999, 0.01, 1e-8, false},
    {"lion", TARPON_OPTIM_LION, 1e-4, 0.99, 0, 1e-8, false},
    {"lion_wd", TARPON_OPTIM_LION, 1e-4, 0.99, 0.01, 1e-8, false},
    {"momentum", TARPON_OPTIM_SGD, 1e-2, 0.999, 0, 1e-8, false},
    {"momentum_wd", TARPON_OPTIM_SGD, 1e-2, 0.999, 0.01, 1e-8, false},
    {"rmsprop", TARPON_OPTIM_RMSPROP, 1e-2, 0.99, 0, 1e-8, true},
    {"adagrad", TARPON_OPTIM_ADAGRAD, 1e-2, 0.999, 0, 1e-10, true},
};

struct Distance {
    double mean = 0, max = 0;
};

Distance distance(const std::vector<float> &a, const std::vector<float> &b) {
    Distance d;
    for (size_t i = 0; i < a.size(); ++i) {
        const double error = std::abs(double(a[i]) - b[i]);
        d.mean += error / double(a.size());
        d.max = std::max(d.max, error);
    }
    return d;
}

TARPON_TEST(test_optim_follows_golden_trajectories) {
    Golden inputs;
    if (!inputs.open("bnb_optim_inputs.safetensors", __func__)) SKIP("no golden files");
    const auto start = inputs.get<float>("p0");
    const auto grads = inputs.get<float>("grads_plain");
    const size_t n = start.size();
    for (const Case &c : kCases) {
        Golden golden;
        const std::string file = std::string("bnb_optim_plain_") + c.file + ".safetensors";
        if (!golden.open(file.c_str(), __func__)) SKIP("no golden files");
        for (const OptimTarget &target : targets()) {
            for (tarpon_state_format format : {TARPON_STATE_F32, TARPON_STATE_DYNAMIC8}) {
                TensorSpec spec;
                spec.n = int64_t(n);
                spec.format = format;
                OptimTensor tensor(target.device.get(), c.rule, spec, start);
                const OwnedOptim optim = make_optim(target, c.rule, {&tensor});
                tarpon_optim_step_args args = default_args(c.rule);
                args.lr = c.lr;
                args.beta2 = c.beta2;
                args.momentum = 0.9;
                args.weight_decay = c.weight_decay;
                args.eps = c.eps;
                for (int t = 1; t <= 20; ++t) {
                    tensor.set_grad(
                        {grads.begin() + int64_t(n) * (t - 1), grads.begin() + int64_t(n) * t});
                    REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
                    if (t != 1 && t != 5 && t != 20) continue;
                    const std::string step = ".step" + std::to_string(t) + ".p";
                    const auto p = tensor.params();
                    const auto plain = golden.get<float>("ref32" + step);
                    const auto theirs = golden.get<float>("nearest" + step);
                    const Distance ours_to_plain = distance(p, plain);
                    const Distance theirs_to_plain = distance(theirs, plain);
                    if (format == TARPON_STATE_F32) {
                        // Rounding alone: an ulp of p a step (p is below 1/4), but a Lion update
                        // whose blend is within rounding of zero may have either sign.
                        const double flips = c.rule == TARPON_OPTIM_LION ? 2 * c.lr : 0;
                        CHECK(ours_to_plain.mean <= 1e-8 * t, "%s %s fp32 step %d: mean %g",
                              target.name.c_str(), c.file, t, ours_to_plain.mean);
                        CHECK(ours_to_plain.max <= 1.5e-8 * t + 2e-6 * c.lr * t + flips,
                              "%s %s fp32 step %d: max %g", target.name.c_str(), c.file, t,
                              ours_to_plain.max);
                        continue;
                    }
                    CHECK(ours_to_plain.mean <= 1.01 * theirs_to_plain.mean + 1e-8,
                          "%s %s step %d: off the fp32 path by %g, the reference by %g",
                          target.name.c_str(), c.file, t, ours_to_plain.mean, theirs_to_plain.mean);
                    if (c.coarser_reference) continue;
                    // The same algorithm: apart by rounding, but for the few states that it pushes
                    // over a midpoint.
                    const Distance apart = distance(p, theirs);
                    CHECK(apart.mean <= 1e-8 * t + 0.01 * theirs_to_plain.mean,
                          "%s %s step %d: %g from the reference, which is %g from fp32",
                          target.name.c_str(), c.file, t, apart.mean, theirs_to_plain.mean);
                }
            }
        }
    }
}

// A list gives what its tensors give one by one, in any mixture of formats.
TARPON_TEST(test_optim_list_equals_single_tensors) {
    for (const OptimTarget &target : targets()) {
        std::vector<TensorSpec> specs;
        for (int i = 0; i < (target.slow ? 12 : 300); ++i) {
            TensorSpec spec;
            spec.n = 1 + (i * 379) % 3000;
            spec.format = i % 3;
            spec.param = i % 2 ? TARPON_BF16 : TARPON_F32;
            spec.grad = i % 5 ? TARPON_BF16 : TARPON_F32;
            spec.copy = i % 4 == 0;
            specs.push_back(spec);
        }
        std::vector<std::unique_ptr<OptimTensor>> owned, single;
        std::vector<OptimTensor *> list;
        for (size_t i = 0; i < specs.size(); ++i) {
            for (auto *into : {&owned, &single}) {
                into->push_back(
                    std::make_unique<OptimTensor>(target.device.get(), TARPON_OPTIM_ADAMW, specs[i],
                                                  normal_values(specs[i].n, 1, uint32_t(i))));
                into->back()->set_grad(normal_values(specs[i].n, 1, uint32_t(1000 + i)));
            }
            list.push_back(owned.back().get());
        }
        const tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAMW);
        const OwnedOptim all = make_optim(target, TARPON_OPTIM_ADAMW, list);
        REQUIRE_OK(tarpon_optim_step(all.get(), &args, nullptr));
        for (size_t i = 0; i < specs.size(); ++i) {
            const OwnedOptim one = make_optim(target, TARPON_OPTIM_ADAMW, {single[i].get()});
            REQUIRE_OK(tarpon_optim_step(one.get(), &args, nullptr));
            CHECK(single[i]->param.read() == owned[i]->param.read(), "%s tensor %zu param",
                  target.name.c_str(), i);
            for (int slot = 0; slot < 2; ++slot) {
                CHECK(single[i]->state[slot].read() == owned[i]->state[slot].read(),
                      "%s tensor %zu state %d", target.name.c_str(), i, slot);
            }
        }
    }
}

// lr and the gradient's multiplier from device memory are those numbers.
TARPON_TEST(test_optim_reads_device_scalars) {
    for (const OptimTarget &target : targets()) {
        std::vector<uint8_t> results[2];
        for (int from_device = 0; from_device < 2; ++from_device) {
            TensorSpec spec;
            OptimTensor tensor(target.device.get(), TARPON_OPTIM_ADAMW, spec,
                               normal_values(spec.n, 1, 1));
            tensor.set_grad(normal_values(spec.n, 1, 2));
            const float scalars[2] = {0.03125f, 0.25f};
            const DeviceArray memory(target.device.get(), sizeof scalars, scalars);
            tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAMW);
            args.lr = from_device ? -1 : scalars[0];  // not looked at
            args.grad_multiplier = from_device ? 0 : scalars[1];
            args.max_grad_norm = 1;
            if (from_device) {
                args.device_lr = static_cast<const float *>(memory.address());
                args.device_grad_multiplier = args.device_lr + 1;
            }
            const OwnedOptim optim = make_optim(target, TARPON_OPTIM_ADAMW, {&tensor});
            REQUIRE_OK(tarpon_optim_step(optim.get(), &args, nullptr));
            results[from_device] = tensor.param.read();
        }
        CHECK(results[0] == results[1], "%s", target.name.c_str());
    }
}

void expect_error(tarpon_status status, tarpon_status expected, const char *text) {
    CHECK_EQ(status, expected, "%s: %s", text, tarpon_last_error());
    CHECK(std::string(tarpon_last_error()).find(text) != std::string::npos, "\"%s\" lacks \"%s\"",
          tarpon_last_error(), text);
}

TARPON_TEST(test_optim_refuses_bad_calls) {
    tarpon_device *device = targets().front().device.get();
    float p[8] = {}, g[8] = {}, m[8] = {}, v[8] = {};
    tarpon_optim_tensor good{};
    good.struct_size = sizeof good;
    good.n = 8;
    good.lr_factor = good.decay_factor = 1;
    good.param = p;
    good.grad = g;
    good.state[0] = m;
    good.state[1] = v;
    auto create = [&](tarpon_optim_rule rule, const tarpon_optim_tensor &tensor, int64_t count,
                      tarpon_optim **out) {
        tarpon_optim_desc desc{};
        desc.struct_size = sizeof desc;
        desc.rule = rule;
        desc.tensor_count = count;
        desc.tensors = &tensor;
        return tarpon_optim_create(device, &desc, out);
    };
    tarpon_optim *optim = nullptr;
    auto bad = [&](tarpon_optim_rule rule, auto change, const char *text,
                   tarpon_status expected = TARPON_ERROR_INVALID_ARGUMENT) {
        tarpon_optim_tensor tensor = good;
        change(tensor);
        expect_error(create(rule, tensor, 1, &optim), expected, text);
        CHECK(optim == nullptr, "%s: out_optim was written", text);
    };
    using T = tarpon_optim_tensor;
    bad(
        12, [](T &) {}, "rule is 12");
    bad(
        -1, [](T &) {}, "rule is -1");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.n = 0; }, "tensors[0].n is 0");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.struct_size = 8; }, "struct_size is 8");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.param = nullptr; }, "tensors[0].param");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.grad = static_cast<const char *>(t.grad) + 1; },
        "tensors[0].grad");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.state[1] = nullptr; }, "tensors[0].state[1]");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.state_format = TARPON_STATE_DYNAMIC8; },
        "tensors[0].absmax[0]");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.state_format = 7; }, "state_format is 7");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.param_dtype = TARPON_I32; }, "param_dtype is 4 (I32)");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.lr_factor = NAN; }, "lr_factor is nan");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.decay_factor = -1; }, "decay_factor is -1");
    bad(
        TARPON_OPTIM_ADAM, [](T &t) { t.flags = 4; }, "flags is 4");
    bad(
        TARPON_OPTIM_SCALE, [](T &t) { t.columns = 3; }, "columns is 3");
    bad(
        TARPON_OPTIM_LION, [](T &t) { t.state_format = TARPON_STATE_FP8; },
        "FP8 is for ADAM and ADAMW", TARPON_ERROR_UNSUPPORTED);
    expect_error(create(TARPON_OPTIM_ADAM, good, 0, &optim), TARPON_ERROR_INVALID_ARGUMENT,
                 "tensor_count is 0");
    tarpon_optim_desc desc{sizeof desc, TARPON_OPTIM_ADAM, 1, &good, "cpu_mmx"};
    expect_error(tarpon_optim_create(device, &desc, &optim), TARPON_ERROR_UNSUPPORTED, "cpu_mmx");

    REQUIRE_OK(create(TARPON_OPTIM_ADAM, good, 1, &optim));
    const OwnedOptim owner(optim);
    auto bad_step = [&](auto change, const char *text) {
        tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAM);
        change(args);
        expect_error(tarpon_optim_step(optim, &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT, text);
    };
    using A = tarpon_optim_step_args;
    bad_step([](A &a) { a.lr = NAN; }, "lr is nan");
    bad_step([](A &a) { a.lr = -1; }, "lr is -1");
    bad_step([](A &a) { a.beta1 = 1; }, "beta1 is 1");
    bad_step([](A &a) { a.beta2 = -0.5; }, "beta2 is -0.5");
    bad_step([](A &a) { a.eps = 0; }, "eps is 0");
    bad_step([](A &a) { a.weight_decay = INFINITY; }, "weight_decay is inf");
    bad_step([](A &a) { a.grad_multiplier = 0; }, "grad_multiplier is 0");
    bad_step([](A &a) { a.max_grad_norm = -2; }, "max_grad_norm is -2");
    bad_step([](A &a) { a.flags = 64; }, "flags is 64");
    const tarpon_optim_step_args args = default_args(TARPON_OPTIM_ADAM);
    expect_error(tarpon_optim_refresh_hessian(optim, &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
                 "SOPHIAG");
    expect_error(tarpon_optim_step(nullptr, &args, nullptr), TARPON_ERROR_INVALID_ARGUMENT,
                 "optim is NULL");
    tarpon_optim_counters counters{};
    counters.struct_size = sizeof counters;
    counters.step = -1;
    expect_error(tarpon_optim_set_counters(optim, &counters, nullptr),
                 TARPON_ERROR_INVALID_ARGUMENT, "step -1");
    size_t bytes[2];
    expect_error(tarpon_optim_state_bytes(TARPON_OPTIM_ADAM, 0, 0, 8, 3, &bytes[0], &bytes[1]),
                 TARPON_ERROR_INVALID_ARGUMENT, "slot is 3");
    CHECK_EQ(counters_of(owner).step, 0, "a refused step counted");
}

// What the states of 25600 elements take, absmax included.
TARPON_TEST(test_optim_state_sizes) {
    auto bytes = [](tarpon_optim_rule rule, tarpon_state_format format, int32_t flags) {
        size_t sum = 0;
        for (int slot = 0; slot < 3; ++slot) {
            size_t state = 0, absmax = 0;
            REQUIRE_OK(tarpon_optim_state_bytes(rule, format, flags, 25600, slot, &state, &absmax));
            sum += state + absmax;
        }
        return sum;
    };
    CHECK_EQ(bytes(TARPON_OPTIM_ADAMW, TARPON_STATE_F32, 0), size_t(8 * 25600));
    CHECK_EQ(bytes(TARPON_OPTIM_ADAMW, TARPON_STATE_DYNAMIC8, 0), size_t(2 * (25600 + 400)));
    CHECK_EQ(bytes(TARPON_OPTIM_ADAMW, TARPON_STATE_FP8, 0), size_t(2 * (25600 + 1600)));
    CHECK_EQ(bytes(TARPON_OPTIM_ADEMAMIX, TARPON_STATE_DYNAMIC8, 0), size_t(3 * (25600 + 400)));
    CHECK_EQ(bytes(TARPON_OPTIM_LION, TARPON_STATE_DYNAMIC8, 0), size_t(25600 + 400));
    CHECK_EQ(bytes(TARPON_OPTIM_SCALE, TARPON_STATE_DYNAMIC8, 0), size_t(0));
    CHECK_EQ(bytes(TARPON_OPTIM_SCALE, TARPON_STATE_DYNAMIC8, TARPON_TENSOR_MOMENTUM),
             size_t(25600 + 400));
}

}  // namespace
}  // namespace tarpon::test
