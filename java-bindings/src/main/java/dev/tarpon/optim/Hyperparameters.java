package dev.tarpon.optim;

import dev.tarpon.NativeOptimizer;
import dev.tarpon.ffi.tarpon_optim_h;
import dev.tarpon.ffi.tarpon_optim_step_args;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The numbers of a step. They start as PyTorch's or the paper's defaults, may change between steps,
 * and are checked by the step; those that a rule does not use are ignored.
 *
 * <p>Not thread-safe; a step reads them before it returns.
 */
public final class Hyperparameters {
    // What the native call reads, so that a step copies nothing.
    private final MemorySegment args = tarpon_optim_step_args.allocate(Arena.ofAuto());

    /** The defaults of a rule. */
    Hyperparameters(UpdateRule rule) {
        NativeOptimizer.readDefaults(rule.id(), args);
    }

    /** A {@code tarpon_optim_step_args}. */
    MemorySegment args() {
        return args;
    }

    /** The learning rate. */
    public double lr() {
        return tarpon_optim_step_args.lr(args);
    }

    /** Sets {@link #lr()}. */
    public Hyperparameters lr(double value) {
        tarpon_optim_step_args.lr(args, value);
        return this;
    }

    /** Decay of the first moment; of Lion the weight of m in the direction. */
    public double beta1() {
        return tarpon_optim_step_args.beta1(args);
    }

    /** Sets {@link #beta1()}. */
    public Hyperparameters beta1(double value) {
        tarpon_optim_step_args.beta1(args, value);
        return this;
    }

    /** Decay of the second moment (RMSprop's alpha); of Lion the decay of m. */
    public double beta2() {
        return tarpon_optim_step_args.beta2(args);
    }

    /** Sets {@link #beta2()}. */
    public Hyperparameters beta2(double value) {
        tarpon_optim_step_args.beta2(args, value);
        return this;
    }

    /** AdEMAMix: decay of the slow moment. */
    public double beta3() {
        return tarpon_optim_step_args.beta3(args);
    }

    /** Sets {@link #beta3()}. */
    public Hyperparameters beta3(double value) {
        tarpon_optim_step_args.beta3(args, value);
        return this;
    }

    /** AdEMAMix: weight of the slow moment. */
    public double alpha() {
        return tarpon_optim_step_args.alpha(args);
    }

    /** Sets {@link #alpha()}. */
    public Hyperparameters alpha(double value) {
        tarpon_optim_step_args.alpha(args, value);
        return this;
    }

    /** SGD and LARS: the momentum. */
    public double momentum() {
        return tarpon_optim_step_args.momentum(args);
    }

    /** Sets {@link #momentum()}. */
    public Hyperparameters momentum(double value) {
        tarpon_optim_step_args.momentum(args, value);
        return this;
    }

    /** What keeps the denominator from 0; > 0. */
    public double eps() {
        return tarpon_optim_step_args.eps(args);
    }

    /** Sets {@link #eps()}. */
    public Hyperparameters eps(double value) {
        tarpon_optim_step_args.eps(args, value);
        return this;
    }

    /** The weight decay, before a group's factor. */
    public double weightDecay() {
        return tarpon_optim_step_args.weight_decay(args);
    }

    /** Sets {@link #weightDecay()}. */
    public Hyperparameters weightDecay(double value) {
        tarpon_optim_step_args.weight_decay(args, value);
        return this;
    }

    /** LARS: eta. */
    public double trustCoefficient() {
        return tarpon_optim_step_args.trust_coefficient(args);
    }

    /** Sets {@link #trustCoefficient()}. */
    public Hyperparameters trustCoefficient(double value) {
        tarpon_optim_step_args.trust_coefficient(args, value);
        return this;
    }

    /** Sophia-G: gamma. */
    public double gamma() {
        return tarpon_optim_step_args.gamma(args);
    }

    /** Sets {@link #gamma()}. */
    public Hyperparameters gamma(double value) {
        tarpon_optim_step_args.gamma(args, value);
        return this;
    }

    /** Sophia-G: the factor of g * g in a refresh, a count of tokens. */
    public double hessianScale() {
        return tarpon_optim_step_args.hessian_scale(args);
    }

    /** Sets {@link #hessianScale()}. */
    public Hyperparameters hessianScale(double value) {
        tarpon_optim_step_args.hessian_scale(args, value);
        return this;
    }

    /** What gradients are multiplied by, such as 1 / loss scale; > 0. */
    public double gradMultiplier() {
        return tarpon_optim_step_args.grad_multiplier(args);
    }

    /** Sets {@link #gradMultiplier()}. */
    public Hyperparameters gradMultiplier(double value) {
        tarpon_optim_step_args.grad_multiplier(args, value);
        return this;
    }

    /** Where the norm over all gradients is clipped; 0 does not clip. */
    public double maxGradNorm() {
        return tarpon_optim_step_args.max_grad_norm(args);
    }

    /** Sets {@link #maxGradNorm()}. */
    public Hyperparameters maxGradNorm(double value) {
        tarpon_optim_step_args.max_grad_norm(args, value);
        return this;
    }

    /** The seed of stochastic rounding. */
    public long seed() {
        return tarpon_optim_step_args.seed(args);
    }

    /** Sets {@link #seed()}. */
    public Hyperparameters seed(long value) {
        tarpon_optim_step_args.seed(args, value);
        return this;
    }

    /** SGD: Nesterov's momentum. */
    public boolean nesterov() {
        return (tarpon_optim_step_args.flags(args) & tarpon_optim_h.TARPON_STEP_NESTEROV) != 0;
    }

    /** Sets {@link #nesterov()}. */
    public Hyperparameters nesterov(boolean value) {
        return flag(tarpon_optim_h.TARPON_STEP_NESTEROV, value);
    }

    /**
     * Whether one gradient that is not finite skips the whole step, at the cost of a pass over the
     * gradients. Otherwise its block of 256 elements is skipped.
     */
    public boolean skipNonfinite() {
        return (tarpon_optim_step_args.flags(args) & tarpon_optim_h.TARPON_STEP_SKIP_NONFINITE)
                != 0;
    }

    /** Sets {@link #skipNonfinite()}. */
    public Hyperparameters skipNonfinite(boolean value) {
        return flag(tarpon_optim_h.TARPON_STEP_SKIP_NONFINITE, value);
    }

    /** Whether BF16 parameters and copies are rounded stochastically. */
    public boolean stochasticParameters() {
        return (tarpon_optim_step_args.flags(args) & tarpon_optim_h.TARPON_STEP_STOCHASTIC_PARAMS)
                != 0;
    }

    /** Sets {@link #stochasticParameters()}. */
    public Hyperparameters stochasticParameters(boolean value) {
        return flag(tarpon_optim_h.TARPON_STEP_STOCHASTIC_PARAMS, value);
    }

    /** Whether 8-bit states are rounded stochastically. */
    public boolean stochasticStates() {
        return (tarpon_optim_step_args.flags(args) & tarpon_optim_h.TARPON_STEP_STOCHASTIC_STATES)
                != 0;
    }

    /** Sets {@link #stochasticStates()}. */
    public Hyperparameters stochasticStates(boolean value) {
        return flag(tarpon_optim_h.TARPON_STEP_STOCHASTIC_STATES, value);
    }

    private Hyperparameters flag(int flag, boolean value) {
        int flags = tarpon_optim_step_args.flags(args);
        tarpon_optim_step_args.flags(args, value ? flags | flag : flags & ~flag);
        return this;
    }
}
