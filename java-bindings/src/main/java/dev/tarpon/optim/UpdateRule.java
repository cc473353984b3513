package dev.tarpon.optim;

import dev.tarpon.ffi.tarpon_optim_h;

/** How a step changes parameters and states. Formulas are in kernels-cu/optim/README.md. */
public enum UpdateRule {
    /** States m and v; weight decay is part of the gradient. */
    ADAM(tarpon_optim_h.TARPON_OPTIM_ADAM),
    /** States m and v; weight decay is decoupled and applied first. */
    ADAMW(tarpon_optim_h.TARPON_OPTIM_ADAMW),
    /** Stochastic gradient descent; state momentum. */
    SGD(tarpon_optim_h.TARPON_OPTIM_SGD),
    /** State v, which decays by beta2. */
    RMSPROP(tarpon_optim_h.TARPON_OPTIM_RMSPROP),
    /** State: the sum of squares. */
    ADAGRAD(tarpon_optim_h.TARPON_OPTIM_ADAGRAD),
    /** State m. */
    LION(tarpon_optim_h.TARPON_OPTIM_LION),
    /** States: fast m, slow m, v. */
    ADEMAMIX(tarpon_optim_h.TARPON_OPTIM_ADEMAMIX),
    /** States m and v; a trust ratio for each tensor. */
    LAMB(tarpon_optim_h.TARPON_OPTIM_LAMB),
    /** State momentum; a trust ratio for each tensor. */
    LARS(tarpon_optim_h.TARPON_OPTIM_LARS),
    /** States m and s. */
    ADABELIEF(tarpon_optim_h.TARPON_OPTIM_ADABELIEF),
    /** States m and h; h is made by {@link Optimizer#refreshHessian}. */
    SOPHIAG(tarpon_optim_h.TARPON_OPTIM_SOPHIAG),
    /** No state, but m for parameters with {@link Parameter#withMomentum momentum}. */
    SCALE(tarpon_optim_h.TARPON_OPTIM_SCALE);

    private final int id;

    UpdateRule(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
