// The update rules, each written once for every device and state format: from parameter p, gradient
// g (unscaled and clipped) and states s, a rule computes the new states in place and returns delta;
// the frame around it stores p - delta, so that weight decay and step are rounded together, once.
//
// Formulas with their sources are in README.md. F is a lane type (lanes.h): float, or 16 of them.
//   kReads, kWrites   bit i: slot i is read, is written. A slot that is not written is not
//                     re-encoded either.
//   kSigned           bit i: slot i takes both signs (its 8-bit map is the signed one)
//   kMoves            the rule changes p
#pragma once

#include "optim/config.h"
#include "optim/lanes.h"

namespace tarpon::optim {

// For F = float; a vector type brings its own, found by its namespace.
using lanes::fma;
using lanes::max;
using lanes::min;
using lanes::sign;
using lanes::sqrt;

// Adam and AdamW, which differ in coefficients: l2 for one, decay for the other.
struct AdamRule {
    static constexpr int kReads = 0b11, kWrites = 0b11, kSigned = 0b01;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        g = fma(F(c.l2), p, g);
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        s[1] = fma(F(c.beta2), s[1], F(c.rest2) * g * g);
        const F direction = s[0] / fma(sqrt(s[1]), F(c.root_scale), F(c.eps));
        return fma(F(c.step_size), direction, F(c.decay) * p);
    }
};

struct SgdRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b1;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        g = fma(F(c.l2), p, g);
        s[0] = fma(F(c.beta1), s[0], g);
        // Nesterov looks ahead: g + momentum * s; without it the direction is s itself.
        const F direction = c.nesterov != 0 ? fma(F(c.nesterov), s[0], g) : s[0];
        return F(c.step_size) * direction;
    }
};

struct RmspropRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b0;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        g = fma(F(c.l2), p, g);
        s[0] = fma(F(c.beta2), s[0], F(c.rest2) * g * g);
        return F(c.step_size) * (g / (sqrt(s[0]) + F(c.eps)));
    }
};

struct AdagradRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b0;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        g = fma(F(c.l2), p, g);
        s[0] = fma(g, g, s[0]);
        return F(c.step_size) * (g / (sqrt(s[0]) + F(c.eps)));
    }
};

struct LionRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b1;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        const F blend = fma(F(c.beta1), s[0], F(c.rest1) * g);
        s[0] = fma(F(c.beta2), s[0], F(c.rest2) * g);
        return fma(F(c.step_size), sign(blend), F(c.decay) * p);
    }
};

// Slots: fast mean, slow mean, second moment. alpha and beta3 are scheduled by the caller.
struct AdemamixRule {
    static constexpr int kReads = 0b111, kWrites = 0b111, kSigned = 0b011;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        s[1] = fma(F(c.beta3), s[1], F(c.rest3) * g);
        s[2] = fma(F(c.beta2), s[2], F(c.rest2) * g * g);
        const F mean = fma(F(c.alpha), s[1], F(c.inverse_bias) * s[0]);
        const F direction = mean / fma(sqrt(s[2]), F(c.root_scale), F(c.eps));
        return fma(F(c.step_size), direction, F(c.decay) * p);
    }
};

// step_size holds the trust ratio; with step_size = 1 the result is the direction r, whose norm
// the ratio needs.
struct LambRule {
    static constexpr int kReads = 0b11, kWrites = 0b11, kSigned = 0b01;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        s[1] = fma(F(c.beta2), s[1], F(c.rest2) * g * g);
        const F root = fma(sqrt(s[1]), F(c.root_scale), F(c.eps));
        return F(c.step_size) * fma(F(c.l2), p, F(c.inverse_bias) * s[0] / root);
    }
};

struct LarsRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b1;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        s[0] = fma(F(c.beta1), s[0], F(c.step_size) * fma(F(c.l2), p, g));
        return s[0];
    }
};

struct AdabeliefRule {
    static constexpr int kReads = 0b11, kWrites = 0b11, kSigned = 0b01;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        const F surprise = g - s[0];
        s[1] = fma(F(c.beta2), s[1], F(c.rest2) * surprise * surprise) + F(c.eps);
        const F direction = s[0] / fma(sqrt(s[1]), F(c.root_scale), F(c.eps));
        return fma(F(c.step_size), direction, F(c.decay) * p);
    }
};

// Slots: mean of the gradient, diagonal of the Hessian. The step leaves the second alone.
struct SophiaRule {
    static constexpr int kReads = 0b11, kWrites = 0b01, kSigned = 0b01;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F) {
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        const F ratio = s[0] / max(F(c.gamma) * s[1], F(c.eps));
        const F direction = min(max(ratio, F(-1.0f)), F(1.0f));
        return fma(F(c.step_size), direction, F(c.decay) * p);
    }
};

// The refresh of the Hessian from the gradient g of a loss on labels drawn from the model.
struct SophiaHessianRule {
    static constexpr int kReads = 0b10, kWrites = 0b10, kSigned = 0b01;
    static constexpr bool kMoves = false;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F, F g, F *s, const Coefficients &c, F) {
        s[1] = fma(F(c.beta2), s[1], F(c.rest3) * g * g);
        return F(0.0f);
    }
};

// inverse_norm: 1 / norm of the element's column. With inverse_norm = step_size = 1 and decay = 0
// the result is what the norm is taken of.
struct ScaleRule {
    static constexpr int kReads = 0, kWrites = 0, kSigned = 0;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *, const Coefficients &c, F inverse_norm) {
        return fma(F(c.step_size), inverse_norm * g, F(c.decay) * p);
    }
};

// The last layer of SCALE: the same on a mean of the gradient.
struct ScaleMomentumRule {
    static constexpr int kReads = 0b1, kWrites = 0b1, kSigned = 0b1;
    static constexpr bool kMoves = true;

    template <class F>
    TARPON_HOST_DEVICE static F delta(F p, F g, F *s, const Coefficients &c, F inverse_norm) {
        s[0] = fma(F(c.beta1), s[0], F(c.rest1) * g);
        return fma(F(c.step_size), inverse_norm * s[0], F(c.decay) * p);
    }
};

}  // namespace tarpon::optim
