package dev.tarpon.optim;

import dev.tarpon.ffi.tarpon_optim_h;

import java.util.List;

/** How a step changes parameters and states. Formulas are in kernels-cu/optim/README.md. */
public enum UpdateRule {
    /** States m and v; weight decay is part of the gradient. */
    ADAM(tarpon_optim_h.TARPON_OPTIM_ADAM, "m", "v"),
    /** States m and v; weight decay is decoupled and applied first. */
    ADAMW(tarpon_optim_h.TARPON_OPTIM_ADAMW, "m", "v"),
    /** Stochastic gradient descent; state momentum. */
    SGD(tarpon_optim_h.TARPON_OPTIM_SGD, "momentum"),
    /** State v, which decays by beta2. */
    RMSPROP(tarpon_optim_h.TARPON_OPTIM_RMSPROP, "v"),
    /** State: the sum of squares. */
    ADAGRAD(tarpon_optim_h.TARPON_OPTIM_ADAGRAD, "sum"),
    /** State m. */
    LION(tarpon_optim_h.TARPON_OPTIM_LION, "m"),
    /** States: fast m, slow m, v. */
    ADEMAMIX(tarpon_optim_h.TARPON_OPTIM_ADEMAMIX, "m", "slow_m", "v"),
    /** States m and v; a trust ratio for each tensor. */
    LAMB(tarpon_optim_h.TARPON_OPTIM_LAMB, "m", "v"),
    /** State momentum; a trust ratio for each tensor. */
    LARS(tarpon_optim_h.TARPON_OPTIM_LARS, "momentum"),
    /** States m and s. */
    ADABELIEF(tarpon_optim_h.TARPON_OPTIM_ADABELIEF, "m", "s"),
    /** States m and h; h is made by {@link Optimizer#refreshHessian}. */
    SOPHIAG(tarpon_optim_h.TARPON_OPTIM_SOPHIAG, "m", "h"),
    /** No state, but m for parameters with {@link Parameter#withMomentum momentum}. */
    SCALE(tarpon_optim_h.TARPON_OPTIM_SCALE, "m");

    private final int id;
    private final List<String> slots;

    UpdateRule(int id, String... slots) {
        this.id = id;
        this.slots = List.of(slots);
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /**
     * The names of the states, in the order of {@link ParameterState}'s lists: such as "m" and "v".
     */
    public List<String> slots() {
        return slots;
    }
}
