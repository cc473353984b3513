// The optimizers in binary64, written from their papers and from PyTorch's documentation, apart
// from the library's own formulas (kernels-cu/optim/rules.h). For tests only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tarpon.h"

namespace tarpon::test {

// One tensor before and after a step, in binary64.
struct ReferenceTensor {
    std::vector<double> p, g;
    std::vector<double> state[3];
    // Sums of the magnitudes of what was added up to a state, and to the numerator of the step
    // over that numerator's own: rounding errors are relative to these, not to what cancellation
    // leaves.
    std::vector<double> magnitude[3], condition;
    int64_t columns = 1;
    bool momentum = false;  // Scale's last layer
    double lr_factor = 1, decay_factor = 1;
};

inline double norm2(const std::vector<double> &x) {
    double sum = 0;
    for (double v : x)
        sum += v * v;
    return std::sqrt(sum);
}

// Gradients are unscaled and clipped already. t: 1 for the first step.
inline void reference_step(tarpon_optim_rule rule, const tarpon_optim_step_args &a, int64_t t,
                           ReferenceTensor &x) {
    const double lr = a.lr * x.lr_factor, wd = a.weight_decay * x.decay_factor;
    const double b1 = a.beta1, b2 = a.beta2;
    const double bias1 = 1 - std::pow(b1, double(t)), bias2 = 1 - std::pow(b2, double(t));
    const size_t n = x.p.size();
    const bool coupled = rule == TARPON_OPTIM_ADAM || rule == TARPON_OPTIM_SGD ||
                         rule == TARPON_OPTIM_RMSPROP || rule == TARPON_OPTIM_ADAGRAD ||
                         rule == TARPON_OPTIM_LARS;
    for (std::vector<double> &magnitude : x.magnitude)
        magnitude.assign(n, 0.0);
    x.condition.assign(n, 1.0);
    // state = decay * state + rest * what, noting magnitudes; `size` is |what| before cancellation.
    auto blend = [&](int slot, size_t i, double decay, double rest, double what, double size) {
        double &state = x.state[slot][i];
        x.magnitude[slot][i] = std::abs(decay * state) + std::abs(rest * size);
        state = decay * state + rest * what;
    };
    auto size_of = [&](size_t i) {
        return std::abs(x.g[i]) + (coupled ? std::abs(wd * x.p[i]) : 0.0);
    };
    auto note_condition = [&](size_t i, double sum, double numerator) {
        if (numerator != 0) x.condition[i] = sum / std::abs(numerator);
    };
    const std::vector<double> &s0 = x.state[0], &s2 = x.state[2];
    std::vector<double> &s1 = x.state[1];
    switch (rule) {
        case TARPON_OPTIM_ADAM:
        case TARPON_OPTIM_ADAMW:
            for (size_t i = 0; i < n; ++i) {
                double g = x.g[i];
                if (rule == TARPON_OPTIM_ADAM) {
                    g += wd * x.p[i];
                } else {
                    x.p[i] *= 1 - lr * wd;
                }
                blend(0, i, b1, 1 - b1, g, size_of(i));
                blend(1, i, b2, 1 - b2, g * g, std::abs(g) * size_of(i));
                note_condition(i, x.magnitude[0][i], s0[i]);
                x.p[i] -= lr * (s0[i] / bias1) / (std::sqrt(s1[i] / bias2) + a.eps);
            }
            return;
        case TARPON_OPTIM_SGD:
            for (size_t i = 0; i < n; ++i) {
                const double g = x.g[i] + wd * x.p[i];
                const double size = size_of(i);
                blend(0, i, a.momentum, 1, g, size);
                const bool nesterov = a.flags & TARPON_STEP_NESTEROV;
                const double u = nesterov ? g + a.momentum * s0[i] : s0[i];
                note_condition(i, x.magnitude[0][i] + (nesterov ? size : 0), u);
                x.p[i] -= lr * u;
            }
            return;
        case TARPON_OPTIM_RMSPROP:
        case TARPON_OPTIM_ADAGRAD:
            for (size_t i = 0; i < n; ++i) {
                const double g = x.g[i] + wd * x.p[i];
                const bool decays = rule == TARPON_OPTIM_RMSPROP;
                blend(0, i, decays ? b2 : 1, decays ? 1 - b2 : 1, g * g, std::abs(g) * size_of(i));
                note_condition(i, size_of(i), g);
                x.p[i] -= lr * g / (std::sqrt(s0[i]) + a.eps);
            }
            return;
        case TARPON_OPTIM_LION:
            for (size_t i = 0; i < n; ++i) {
                const double look = b1 * s0[i] + (1 - b1) * x.g[i];
                x.p[i] *= 1 - lr * wd;
                x.p[i] -= lr * ((look > 0) - (look < 0));
                blend(0, i, b2, 1 - b2, x.g[i], x.g[i]);
            }
            return;
        case TARPON_OPTIM_ADEMAMIX:
            for (size_t i = 0; i < n; ++i) {
                blend(0, i, b1, 1 - b1, x.g[i], x.g[i]);
                blend(1, i, a.beta3, 1 - a.beta3, x.g[i], x.g[i]);
                blend(2, i, b2, 1 - b2, x.g[i] * x.g[i], x.g[i] * x.g[i]);
                const double mean = s0[i] / bias1 + a.alpha * s1[i];
                note_condition(i, x.magnitude[0][i] / bias1 + a.alpha * x.magnitude[1][i], mean);
                const double u = mean / (std::sqrt(s2[i] / bias2) + a.eps);
                x.p[i] -= lr * (u + wd * x.p[i]);
            }
            return;
        case TARPON_OPTIM_LAMB: {
            std::vector<double> r(n);
            for (size_t i = 0; i < n; ++i) {
                blend(0, i, b1, 1 - b1, x.g[i], x.g[i]);
                blend(1, i, b2, 1 - b2, x.g[i] * x.g[i], x.g[i] * x.g[i]);
                const double root = std::sqrt(s1[i] / bias2) + a.eps;
                r[i] = (s0[i] / bias1) / root + wd * x.p[i];
                note_condition(i, x.magnitude[0][i] / bias1 / root + std::abs(wd * x.p[i]), r[i]);
            }
            const double w_norm = norm2(x.p), r_norm = norm2(r);
            const double ratio = w_norm > 0 && r_norm > 0 ? w_norm / r_norm : 1;
            for (size_t i = 0; i < n; ++i)
                x.p[i] -= lr * ratio * r[i];
            return;
        }
        case TARPON_OPTIM_LARS: {
            const double w_norm = norm2(x.p), g_norm = norm2(x.g);
            const double ratio = w_norm > 0 && g_norm > 0
                                     ? a.trust_coefficient * w_norm / (g_norm + wd * w_norm)
                                     : 1;
            for (size_t i = 0; i < n; ++i) {
                blend(0, i, a.momentum, lr * ratio, x.g[i] + wd * x.p[i], size_of(i));
                note_condition(i, x.magnitude[0][i], s0[i]);
                x.p[i] -= s0[i];
            }
            return;
        }
        case TARPON_OPTIM_ADABELIEF:
            for (size_t i = 0; i < n; ++i) {
                blend(0, i, b1, 1 - b1, x.g[i], x.g[i]);
                const double surprise = x.g[i] - s0[i];
                const double size = std::abs(x.g[i]) + x.magnitude[0][i];
                blend(1, i, b2, 1 - b2, surprise * surprise, surprise * size);
                s1[i] += a.eps;
                x.magnitude[1][i] += a.eps;
                note_condition(i, x.magnitude[0][i], s0[i]);
                x.p[i] *= 1 - lr * wd;
                x.p[i] -= lr * (s0[i] / bias1) / (std::sqrt(s1[i] / bias2) + a.eps);
            }
            return;
        case TARPON_OPTIM_SOPHIAG:
            for (size_t i = 0; i < n; ++i) {
                blend(0, i, b1, 1 - b1, x.g[i], x.g[i]);
                note_condition(i, x.magnitude[0][i], s0[i]);
                x.p[i] *= 1 - lr * wd;
                const double u = s0[i] / std::max(a.gamma * s1[i], a.eps);
                x.p[i] -= lr * std::clamp(u, -1.0, 1.0);
            }
            return;
        case TARPON_OPTIM_SCALE: {
            const auto columns = static_cast<size_t>(x.columns);
            std::vector<double> squares(columns);
            std::vector<double> u(n);
            for (size_t i = 0; i < n; ++i) {
                if (x.momentum) blend(0, i, b1, 1 - b1, x.g[i], x.g[i]);
                u[i] = x.momentum ? s0[i] : x.g[i];
                if (x.momentum) note_condition(i, x.magnitude[0][i], s0[i]);
                squares[i % columns] += u[i] * u[i];
            }
            for (size_t i = 0; i < n; ++i) {
                const double norm = std::sqrt(squares[i % columns]);
                x.p[i] -= lr * wd * x.p[i] + (norm > 0 ? lr * u[i] / norm : 0);
            }
            return;
        }
    }
}

}  // namespace tarpon::test
