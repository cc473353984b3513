// Vocabulary of the fused optimizer steps, shared by host code, kernels and the CPU backend: rules,
// state formats, what a step is given, and the coefficients that a rule computes with.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/types.h"

namespace tarpon::optim {

enum class Rule : int32_t {
    kAdam,
    kAdamW,
    kSgd,
    kRmsprop,
    kAdagrad,
    kLion,
    kAdemamix,
    kLamb,
    kLars,
    kAdabelief,
    kSophiaG,
    kScale,
};
inline constexpr int kRules = 12;

enum class StateFormat : int32_t {
    kF32,
    kDynamic8,     // codes of the dynamic maps, one absmax a block of 256
    kFp8Expanded,  // e4m3 with dynamic-range expansion, {absmax, power} a group of 128 (codec.h)
};
inline constexpr int kStateFormats = 3;

enum class Dtype : int32_t { kF32, kF16, kBF16 };

inline constexpr int kMaxStates = 3;
inline constexpr int kBlockElems = 256;  // what shares an absmax, and what is updated together
inline constexpr int kFp8GroupElems = 128;
inline constexpr int kFp8Groups = kBlockElems / kFp8GroupElems;

// From here on a gradient counts as overflowed, together with infinities and NaN: its square and
// sums of a few squares must stay finite in binary32.
inline constexpr float kGradientLimit = 0x1p60f;

// What one step is given; the meaning of each number is in tarpon.h (tarpon_optim_step_args).
struct StepScalars {
    double lr, beta1, beta2, beta3, alpha, momentum, eps, weight_decay;
    double trust_coefficient, gamma, hessian_scale;
    double grad_multiplier, max_grad_norm;
    uint64_t seed;
    int32_t nesterov, skip_nonfinite, stochastic_params, stochastic_states;
    const float *device_lr;               // null: lr
    const float *device_grad_multiplier;  // null: grad_multiplier
};

// What a plan keeps in device memory from step to step.
struct Control {
    int64_t step;            // steps taken; a skipped one does not count
    int64_t skipped_steps;   // for a gradient that is not finite
    int64_t skipped_blocks;  // likewise, where whole steps are not skipped
    double grad_norm;        // of the last step that measured it, after grad_multiplier
};

// What a rule computes with, in binary32, the same for all elements of a tensor.
struct Coefficients {
    float grad_multiplier;  // unscaling times clipping
    float beta1, rest1;     // and 1 - beta1; momentum for Sgd and Lars
    float beta2, rest2;
    float beta3, rest3;
    float step_size;     // of the rule's direction, bias correction and trust ratio included
    float inverse_bias;  // 1 / (1 - beta1^t), where it cannot be part of step_size
    float root_scale;    // 1 / sqrt(1 - beta2^t)
    float alpha, eps;
    float l2;     // weight decay that is part of the gradient
    float decay;  // lr * weight decay that is decoupled from it
    float gamma;
    float nesterov;  // momentum if Nesterov's, else 0
};

// The kernels there are: a rule, or what a rule becomes for a tensor or in a step.
enum class Update : int32_t {
    kAdam,  // and AdamW
    kSgd,
    kRmsprop,
    kAdagrad,
    kLion,
    kAdemamix,
    kLamb,
    kLars,
    kAdabelief,
    kSophia,
    kSophiaHessian,
    kScale,
    kScaleMomentum,
};
inline constexpr int kUpdates = 13;

// One tensor of a plan, in device memory. Pointers are device addresses, aligned to their elements.
struct TensorEntry {
    void *param;
    const void *grad;
    void *copy;                  // null, or where p is copied to, rounded to copy_dtype
    void *state[kMaxStates];     // elems floats, or elems codes
    float *absmax[kMaxStates];   // kDynamic8: a float a block; kFp8Expanded: an Fp8Group a group
    const float *inverse_norms;  // Scale: of column i % columns, for i < columns + kBlockElems
    int64_t elems;
    int64_t columns;
    Dtype param_dtype, grad_dtype, copy_dtype;
    StateFormat format;
    Update update;
    int32_t index;  // in the plan: names the random stream
    double lr_factor, decay_factor;
};

struct Rounding {
    uint64_t seed;
    int64_t step;
    int32_t stochastic_params, stochastic_states;
};

TARPON_HOST_DEVICE int64_t block_count(int64_t elems) {
    return (elems + kBlockElems - 1) / kBlockElems;
}

// beta^t by squaring: the same bits on every device, unlike pow().
TARPON_HOST_DEVICE double power(double base, int64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1, base *= base) {
        if (exponent & 1) result *= base;
    }
    return result;
}

// step: 1 for the first. lr_factor: the tensor's share of lr. clip: 1 or less. trust: the tensor's
// ratio (Lamb, Lars), else 1.
TARPON_HOST_DEVICE Coefficients derive_coefficients(Rule rule, const StepScalars &s, int64_t step,
                                                    double lr_factor, double weight_decay,
                                                    double clip, double trust) {
    const double lr = (s.device_lr ? double(*s.device_lr) : s.lr) * lr_factor;
    const double unscale =
        s.device_grad_multiplier ? double(*s.device_grad_multiplier) : s.grad_multiplier;
    const double bias1 = 1 - power(s.beta1, step), bias2 = 1 - power(s.beta2, step);
    Coefficients c{};
    c.grad_multiplier = float(unscale * clip);
    c.beta1 = float(s.beta1);
    c.rest1 = float(1 - s.beta1);
    c.beta2 = float(s.beta2);
    c.rest2 = float(1 - s.beta2);
    c.beta3 = float(s.beta3);
    c.rest3 = float(1 - s.beta3);
    c.alpha = float(s.alpha);
    c.eps = float(s.eps);
    c.gamma = float(s.gamma);
    c.step_size = float(lr);
    c.inverse_bias = float(1 / bias1);
    c.root_scale = float(1 / std::sqrt(bias2));
    c.decay = float(lr * weight_decay);
    switch (rule) {
        case Rule::kAdam:
            c.step_size = float(lr / bias1);
            c.decay = 0;
            c.l2 = float(weight_decay);
            break;
        case Rule::kAdamW:
        case Rule::kAdabelief:
            c.step_size = float(lr / bias1);
            break;
        case Rule::kLamb:
            c.step_size = float(lr * trust);
            c.decay = 0;
            c.l2 = float(weight_decay);  // of the direction, not of the gradient
            break;
        case Rule::kSgd:
        case Rule::kLars:
            c.step_size = float(lr * trust);
            c.beta1 = float(s.momentum);
            c.nesterov = s.nesterov ? float(s.momentum) : 0.0f;
            c.decay = 0;
            c.l2 = float(weight_decay);
            break;
        case Rule::kRmsprop:
        case Rule::kAdagrad:
            c.decay = 0;
            c.l2 = float(weight_decay);
            break;
        case Rule::kSophiaG:
            // The refresh of h: (1 - beta2) * hessian_scale * g^2.
            c.rest3 = float((1 - s.beta2) * s.hessian_scale);
            break;
        case Rule::kLion:
        case Rule::kAdemamix:
        case Rule::kScale:
            break;
    }
    return c;
}

// max_norm / norm where the norm is over it (0: no limit), as torch.nn.utils.clip_grad_norm_.
TARPON_HOST_DEVICE double clip_factor(double norm, double max_norm) {
    if (max_norm <= 0) return 1;
    const double factor = max_norm / (norm + 1e-6);
    return factor < 1 ? factor : 1;
}

// Lamb: |w| / |r|. Lars: eta * |w| / (|g| + wd * |w|). 1 where a norm is zero.
TARPON_HOST_DEVICE double lamb_trust(double weight_norm, double direction_norm) {
    return weight_norm > 0 && direction_norm > 0 ? weight_norm / direction_norm : 1;
}
TARPON_HOST_DEVICE double lars_trust(double weight_norm, double grad_norm, double weight_decay,
                                     double eta) {
    const double denominator = grad_norm + weight_decay * weight_norm;
    return weight_norm > 0 && grad_norm > 0 ? eta * weight_norm / denominator : 1;
}

}  // namespace tarpon::optim
