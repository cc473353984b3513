// The optimizer family on the host: validation of tensors and of a step's numbers, sizes, and the
// choice of a variant. Cold code, except for checked_scalars(): it throws tarpon::Error, which
// abi_optim.cc turns into a status.
#include "optim.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "registry.h"

namespace tarpon {
namespace {

using ll = long long;
using optim::Rule;
using optim::StateFormat;
using optim::Update;

constexpr int64_t kMaxElems = int64_t{1} << 40;
constexpr int64_t kMaxTensors = int64_t{1} << 20;

constexpr const char *kRuleNames[optim::kRules] = {"ADAM",    "ADAMW",     "SGD",      "RMSPROP",
                                                   "ADAGRAD", "LION",      "ADEMAMIX", "LAMB",
                                                   "LARS",    "ADABELIEF", "SOPHIAG",  "SCALE"};

Rule checked_rule(tarpon_optim_rule rule) {
    if (rule < 0 || rule >= optim::kRules) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "rule is %d; it must be 0 (ADAM) .. %d (SCALE)", rule,
             optim::kRules - 1);
    }
    return static_cast<Rule>(rule);
}

int state_slots(Rule rule, int32_t tensor_flags) {
    switch (rule) {
        case Rule::kAdam:
        case Rule::kAdamW:
        case Rule::kLamb:
        case Rule::kAdabelief:
        case Rule::kSophiaG:
            return 2;
        case Rule::kAdemamix:
            return 3;
        case Rule::kSgd:
        case Rule::kRmsprop:
        case Rule::kAdagrad:
        case Rule::kLion:
        case Rule::kLars:
            return 1;
        case Rule::kScale:
            break;
    }
    return tensor_flags & TARPON_TENSOR_MOMENTUM ? 1 : 0;
}

Update update_of(Rule rule, int32_t tensor_flags) {
    switch (rule) {
        case Rule::kAdam:
        case Rule::kAdamW:
            return Update::kAdam;
        case Rule::kSgd:
            return Update::kSgd;
        case Rule::kRmsprop:
            return Update::kRmsprop;
        case Rule::kAdagrad:
            return Update::kAdagrad;
        case Rule::kLion:
            return Update::kLion;
        case Rule::kAdemamix:
            return Update::kAdemamix;
        case Rule::kLamb:
            return Update::kLamb;
        case Rule::kLars:
            return Update::kLars;
        case Rule::kAdabelief:
            return Update::kAdabelief;
        case Rule::kSophiaG:
            return Update::kSophia;
        case Rule::kScale:
            break;
    }
    return tensor_flags & TARPON_TENSOR_MOMENTUM ? Update::kScaleMomentum : Update::kScale;
}

StateFormat checked_format(Rule rule, tarpon_state_format format) {
    if (format < 0 || format >= optim::kStateFormats) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "state_format is %d; it must be F32 (0), DYNAMIC8 (1) or FP8 (2)", format);
    }
    if (format == TARPON_STATE_FP8 && rule != Rule::kAdam && rule != Rule::kAdamW) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "state_format FP8 is for ADAM and ADAMW; %s takes F32 and DYNAMIC8",
             kRuleNames[static_cast<int>(rule)]);
    }
    return static_cast<StateFormat>(format);
}

void check_elems(int64_t n, const char *what) {
    if (n < 1 || n > kMaxElems) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is %lld; it must be 1 .. 2^40", what, ll{n});
    }
}

size_t dtype_size(tarpon_dtype dtype) {
    return dtype == TARPON_F32 ? 4 : 2;
}

optim::Dtype checked_dtype(tarpon_dtype dtype, const std::string &what) {
    switch (dtype) {
        case TARPON_F32:
            return optim::Dtype::kF32;
        case TARPON_F16:
            return optim::Dtype::kF16;
        case TARPON_BF16:
            return optim::Dtype::kBF16;
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)",
         what.c_str(), dtype, dtype_name(dtype));
}

void check_address(const void *address, size_t alignment, const std::string &what) {
    if (address && reinterpret_cast<uintptr_t>(address) % alignment == 0) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is %p; it must be aligned to %zu bytes and not NULL",
         what.c_str(), address, alignment);
}

void check_factor(double factor, const std::string &what) {
    if (std::isfinite(factor) && factor >= 0) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "%s is %g; it must be finite and >= 0", what.c_str(),
         factor);
}

optim::TensorEntry checked_tensor(Rule rule, const tarpon_optim_tensor &t, int64_t index) {
    const std::string name = "tensors[" + std::to_string(index) + "].";
    if (t.flags & ~TARPON_TENSOR_MOMENTUM) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "%sflags is %d; known is TARPON_TENSOR_MOMENTUM (1)",
             name.c_str(), t.flags);
    }
    check_elems(t.n, (name + "n").c_str());
    optim::TensorEntry entry{};
    entry.param_dtype = checked_dtype(t.param_dtype, name + "param_dtype");
    entry.grad_dtype = checked_dtype(t.grad_dtype, name + "grad_dtype");
    check_address(t.param, dtype_size(t.param_dtype), name + "param");
    check_address(t.grad, dtype_size(t.grad_dtype), name + "grad");
    if (t.copy) {
        entry.copy_dtype = checked_dtype(t.copy_dtype, name + "copy_dtype");
        check_address(t.copy, dtype_size(t.copy_dtype), name + "copy");
    }
    check_factor(t.lr_factor, name + "lr_factor");
    check_factor(t.decay_factor, name + "decay_factor");
    if (rule == Rule::kScale && (t.columns < 1 || t.n % t.columns != 0)) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "%scolumns is %lld; SCALE needs a matrix whose columns divide n = %lld", name.c_str(),
             ll{t.columns}, ll{t.n});
    }
    entry.format = checked_format(rule, t.state_format);
    for (int slot = 0; slot < state_slots(rule, t.flags); ++slot) {
        const std::string number = "[" + std::to_string(slot) + "]";
        const bool floats = entry.format == StateFormat::kF32;
        check_address(t.state[slot], floats ? sizeof(float) : 1, name + "state" + number);
        entry.state[slot] = t.state[slot];
        if (floats) continue;
        check_address(t.absmax[slot], sizeof(float), name + "absmax" + number);
        entry.absmax[slot] = t.absmax[slot];
    }
    entry.param = t.param;
    entry.grad = t.grad;
    entry.copy = t.copy;
    entry.elems = t.n;
    entry.columns = rule == Rule::kScale ? t.columns : 1;
    entry.update = update_of(rule, t.flags);
    entry.index = static_cast<int32_t>(index);
    entry.lr_factor = t.lr_factor;
    entry.decay_factor = t.decay_factor;
    return entry;
}

// The struct is the stride of the array: one of another size is refused, not guessed at.
std::vector<optim::TensorEntry> checked_tensors(Rule rule, const tarpon_optim_desc &desc) {
    if (desc.tensor_count < 1 || desc.tensor_count > kMaxTensors) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->tensor_count is %lld; it must be 1 .. 2^20",
             ll{desc.tensor_count});
    }
    if (!desc.tensors) fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->tensors is NULL");
    const uint32_t stride = desc.tensors[0].struct_size;
    if (stride != sizeof(tarpon_optim_tensor)) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "tensors[0].struct_size is %u; set it to sizeof, here %zu", stride,
             sizeof(tarpon_optim_tensor));
    }
    std::vector<optim::TensorEntry> entries;
    entries.reserve(static_cast<size_t>(desc.tensor_count));
    for (int64_t i = 0; i < desc.tensor_count; ++i) {
        const tarpon_optim_tensor &tensor = desc.tensors[i];
        if (tensor.struct_size != stride) {
            fail(TARPON_ERROR_INVALID_ARGUMENT,
                 "tensors[%lld].struct_size is %u, and that of tensors[0] is %u", ll{i},
                 tensor.struct_size, stride);
        }
        entries.push_back(checked_tensor(rule, tensor, i));
    }
    return entries;
}

const OptimVariant &choose_variant(const Device &device, const OptimProblem &problem,
                                   const char *forced_name) {
    std::string offered;
    for (const OptimVariant &variant : device.optim_variants()) {
        offered += std::string("\n  ") + variant.name + ": " + variant.needs;
        if (forced_name && std::strcmp(forced_name, variant.name) != 0) continue;
        if (variant.supports(device, problem)) return variant;
    }
    tarpon_device_info info{};
    info.struct_size = sizeof info;
    device.info(info);
    fail(TARPON_ERROR_UNSUPPORTED,
         "optim: no kernel%s%s serves rule %s on device %s:%d (%s); there are:%s",
         forced_name ? " variant " : "", forced_name ? forced_name : "",
         kRuleNames[static_cast<int>(problem.rule)], device_kind_name(info.kind), info.ordinal,
         info.isa, offered.empty() ? " none" : offered.c_str());
}

void check_range(bool valid, const char *name, double value, const char *range) {
    if (!valid) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "args->%s is %g; it must be %s", name, value, range);
    }
}

void check_decay(double value, const char *name) {
    check_range(value >= 0 && value < 1, name, value, ">= 0 and < 1");
}

bool uses_eps(Rule rule) {
    return rule != Rule::kSgd && rule != Rule::kLion && rule != Rule::kLars && rule != Rule::kScale;
}

}  // namespace

std::unique_ptr<OptimPlan> create_optim(Device &device, const tarpon_optim_desc &desc,
                                        const char **out_variant, optim::Rule *out_rule) {
    const Rule rule = checked_rule(desc.rule);
    const OptimProblem problem{rule, checked_tensors(rule, desc)};
    const OptimVariant &variant = choose_variant(device, problem, desc.variant);
    *out_variant = variant.name;
    *out_rule = rule;
    return variant.create(device, problem);
}

optim::StepScalars checked_scalars(Rule rule, const tarpon_optim_step_args &args) {
    constexpr int kKnownFlags = TARPON_STEP_NESTEROV | TARPON_STEP_SKIP_NONFINITE |
                                TARPON_STEP_STOCHASTIC_PARAMS | TARPON_STEP_STOCHASTIC_STATES;
    if (args.flags & ~kKnownFlags) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "args->flags is %d; known flags are within %d",
             args.flags, kKnownFlags);
    }
    if (!args.device_lr) {
        check_range(std::isfinite(args.lr) && args.lr >= 0, "lr", args.lr, "finite and >= 0");
    }
    check_decay(args.beta1, "beta1");
    check_decay(args.beta2, "beta2");
    check_decay(args.beta3, "beta3");
    check_decay(args.momentum, "momentum");
    if (uses_eps(rule)) {
        check_range(args.eps >= 1e-30 && args.eps <= 1, "eps", args.eps, "1e-30 .. 1");
    }
    check_range(std::isfinite(args.alpha), "alpha", args.alpha, "finite");
    check_range(std::isfinite(args.weight_decay) && args.weight_decay >= 0, "weight_decay",
                args.weight_decay, "finite and >= 0");
    if (rule == Rule::kLars) {
        check_range(std::isfinite(args.trust_coefficient) && args.trust_coefficient > 0,
                    "trust_coefficient", args.trust_coefficient, "finite and > 0");
    }
    if (rule == Rule::kSophiaG) {
        check_range(std::isfinite(args.gamma) && args.gamma > 0, "gamma", args.gamma,
                    "finite and > 0");
        check_range(std::isfinite(args.hessian_scale) && args.hessian_scale > 0, "hessian_scale",
                    args.hessian_scale, "finite and > 0");
    }
    if (!args.device_grad_multiplier) {
        check_range(std::isfinite(args.grad_multiplier) && args.grad_multiplier > 0,
                    "grad_multiplier", args.grad_multiplier,
                    "finite and > 0 (1 leaves gradients as they are)");
    }
    check_range(std::isfinite(args.max_grad_norm) && args.max_grad_norm >= 0, "max_grad_norm",
                args.max_grad_norm, "finite and >= 0 (0 does not clip)");
    optim::StepScalars s{};
    s.lr = args.lr;
    s.beta1 = args.beta1;
    s.beta2 = args.beta2;
    s.beta3 = args.beta3;
    s.alpha = args.alpha;
    s.momentum = args.momentum;
    s.eps = args.eps;
    s.weight_decay = args.weight_decay;
    s.trust_coefficient = args.trust_coefficient;
    s.gamma = args.gamma;
    s.hessian_scale = args.hessian_scale;
    s.grad_multiplier = args.grad_multiplier;
    s.max_grad_norm = args.max_grad_norm;
    s.seed = args.seed;
    s.nesterov = (args.flags & TARPON_STEP_NESTEROV) != 0;
    s.skip_nonfinite = (args.flags & TARPON_STEP_SKIP_NONFINITE) != 0;
    s.stochastic_params = (args.flags & TARPON_STEP_STOCHASTIC_PARAMS) != 0;
    s.stochastic_states = (args.flags & TARPON_STEP_STOCHASTIC_STATES) != 0;
    s.device_lr = args.device_lr;
    s.device_grad_multiplier = args.device_grad_multiplier;
    return s;
}

tarpon_optim_step_args default_step_args(tarpon_optim_rule rule_value) {
    tarpon_optim_step_args a{};
    a.struct_size = sizeof a;
    a.lr = 1e-3;
    a.beta1 = 0.9;
    a.beta2 = 0.999;
    a.eps = 1e-8;
    a.trust_coefficient = 0.001;
    a.gamma = 0.01;
    a.hessian_scale = 1;
    a.grad_multiplier = 1;
    switch (checked_rule(rule_value)) {
        case Rule::kAdam:
            break;
        case Rule::kAdamW:
            a.weight_decay = 0.01;
            break;
        case Rule::kSgd:  // PyTorch's has no momentum unless it is asked for
            break;
        case Rule::kRmsprop:
            a.lr = 1e-2;
            a.beta2 = 0.99;
            break;
        case Rule::kAdagrad:
            a.lr = 1e-2;
            a.eps = 1e-10;
            break;
        case Rule::kLion:
            a.lr = 1e-4;
            a.beta2 = 0.99;
            break;
        case Rule::kAdemamix:
            a.beta3 = 0.9999;
            a.alpha = 5;
            a.weight_decay = 0.01;
            break;
        case Rule::kLamb:
            a.eps = 1e-6;
            a.weight_decay = 0.01;
            break;
        case Rule::kLars:
            a.momentum = 0.9;
            a.lr = 0.1;
            break;
        case Rule::kAdabelief:
            a.eps = 1e-16;
            break;
        case Rule::kSophiaG:
            a.lr = 1e-4;
            a.beta1 = 0.965;
            a.beta2 = 0.99;
            a.eps = 1e-12;
            a.weight_decay = 0.1;
            break;
        case Rule::kScale:
            break;
    }
    return a;
}

void optim_state_bytes(tarpon_optim_rule rule_value, tarpon_state_format format_value,
                       int32_t tensor_flags, int64_t elems, int32_t slot, size_t *out_state_bytes,
                       size_t *out_absmax_bytes) {
    const Rule rule = checked_rule(rule_value);
    const StateFormat format = checked_format(rule, format_value);
    check_elems(elems, "n");
    if (slot < 0 || slot >= optim::kMaxStates) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "slot is %d; it must be 0 .. 2", slot);
    }
    const size_t n = slot < state_slots(rule, tensor_flags) ? static_cast<size_t>(elems) : 0;
    *out_state_bytes = format == StateFormat::kF32 ? 4 * n : n;
    *out_absmax_bytes = 0;
    if (format == StateFormat::kDynamic8) {
        *out_absmax_bytes = (n + optim::kBlockElems - 1) / optim::kBlockElems * sizeof(float);
    } else if (format == StateFormat::kFp8Expanded) {
        *out_absmax_bytes =
            (n + optim::kFp8GroupElems - 1) / optim::kFp8GroupElems * 2 * sizeof(float);
    }
}

const float *code_map_values(tarpon_code_map map) {
    if (map < 0 || map >= optim::kMapKinds) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "map is %d; it must be 0 (DYNAMIC_SIGNED) .. 5 (NF4)",
             map);
    }
    return optim::code_map(static_cast<optim::MapKind>(map)).value;
}

BlockwiseArgs checked_blockwise(const void *values, tarpon_dtype dtype, int64_t elems,
                                tarpon_code_map map, int64_t block_size, const void *codes,
                                const float *absmax, const Stream *stream) {
    (void)code_map_values(map);
    const optim::Dtype known_dtype = checked_dtype(dtype, "dtype");
    if (elems < 0 || elems > kMaxElems) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "n is %lld; it must be 0 .. 2^40", ll{elems});
    }
    const bool power_of_two = block_size > 0 && (block_size & (block_size - 1)) == 0;
    if (!power_of_two || block_size < 64 || block_size > 4096) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "block_size is %lld; it must be 64, 128, 256, 512, 1024, 2048 or 4096",
             ll{block_size});
    }
    if (elems > 0) {
        check_address(values, dtype_size(dtype), "the array of values");
        check_address(codes, 1, "codes");
        check_address(absmax, sizeof(float), "absmax");
    }
    return {static_cast<optim::MapKind>(map),
            known_dtype,
            const_cast<void *>(values),
            static_cast<uint8_t *>(const_cast<void *>(codes)),
            const_cast<float *>(absmax),
            elems,
            block_size,
            stream};
}

}  // namespace tarpon
