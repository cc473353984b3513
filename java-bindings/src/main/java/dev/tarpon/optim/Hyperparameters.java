package dev.tarpon.optim;

import dev.tarpon.NativeOptimizer;
import dev.tarpon.ffi.tarpon_optim_h;
import dev.tarpon.ffi.tarpon_optim_step_args;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;

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

    /** Everything by name, as {@link #parse} takes it; a double's text is exact. */
    Map<String, String> values() {
        Map<String, String> values = new LinkedHashMap<>();
        for (Number number : Number.values()) {
            values.put(number.key(), Double.toString(number.read.applyAsDouble(args)));
        }
        values.put("seed", Long.toUnsignedString(seed()));
        values.put("flags", Integer.toString(tarpon_optim_step_args.flags(args)));
        return values;
    }

    /**
     * A copy of the numbers of {@link #values}, to be taken over by {@link #set}.
     *
     * @throws IllegalArgumentException that names the number that is missing or none
     */
    static MemorySegment parse(Map<String, String> values) {
        MemorySegment parsed = tarpon_optim_step_args.allocate(Arena.ofAuto());
        for (Number number : Number.values()) {
            String text = require(values, number.key());
            try {
                number.write.accept(parsed, Double.parseDouble(text));
            } catch (NumberFormatException e) {
                throw new IllegalArgumentException(
                        "%s is '%s', not a number".formatted(number.key(), text), e);
            }
        }
        String seed = require(values, "seed");
        String flags = require(values, "flags");
        try {
            tarpon_optim_step_args.seed(parsed, Long.parseUnsignedLong(seed));
            tarpon_optim_step_args.flags(parsed, Integer.parseInt(flags));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(
                    "seed is '%s' and flags are '%s'; they must be integers".formatted(seed, flags),
                    e);
        }
        return parsed;
    }

    /** Takes over what {@link #parse} made. */
    void set(MemorySegment parsed) {
        args.copyFrom(parsed);
    }

    private static String require(Map<String, String> values, String key) {
        String text = values.get(key);
        if (text == null) {
            throw new IllegalArgumentException(key + " is missing");
        }
        return text;
    }

    private interface Write {
        void accept(MemorySegment args, double value);
    }

    /** The doubles of a step; {@code key} is how saved states name them. */
    private enum Number {
        LR(tarpon_optim_step_args::lr, tarpon_optim_step_args::lr),
        BETA1(tarpon_optim_step_args::beta1, tarpon_optim_step_args::beta1),
        BETA2(tarpon_optim_step_args::beta2, tarpon_optim_step_args::beta2),
        BETA3(tarpon_optim_step_args::beta3, tarpon_optim_step_args::beta3),
        ALPHA(tarpon_optim_step_args::alpha, tarpon_optim_step_args::alpha),
        MOMENTUM(tarpon_optim_step_args::momentum, tarpon_optim_step_args::momentum),
        EPS(tarpon_optim_step_args::eps, tarpon_optim_step_args::eps),
        WEIGHT_DECAY(tarpon_optim_step_args::weight_decay, tarpon_optim_step_args::weight_decay),
        TRUST_COEFFICIENT(
                tarpon_optim_step_args::trust_coefficient,
                tarpon_optim_step_args::trust_coefficient),
        GAMMA(tarpon_optim_step_args::gamma, tarpon_optim_step_args::gamma),
        HESSIAN_SCALE(tarpon_optim_step_args::hessian_scale, tarpon_optim_step_args::hessian_scale),
        GRAD_MULTIPLIER(
                tarpon_optim_step_args::grad_multiplier, tarpon_optim_step_args::grad_multiplier),
        MAX_GRAD_NORM(tarpon_optim_step_args::max_grad_norm, tarpon_optim_step_args::max_grad_norm);

        private final ToDoubleFunction<MemorySegment> read;
        private final Write write;

        Number(ToDoubleFunction<MemorySegment> read, Write write) {
            this.read = read;
            this.write = write;
        }

        private String key() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private Hyperparameters flag(int flag, boolean value) {
        int flags = tarpon_optim_step_args.flags(args);
        tarpon_optim_step_args.flags(args, value ? flags | flag : flags & ~flag);
        return this;
    }
}
