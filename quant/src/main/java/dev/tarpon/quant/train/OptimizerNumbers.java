package dev.tarpon.quant.train;

import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.optim.UpdateRule;

import java.util.function.DoubleFunction;

/**
 * The numbers of an optimizer that are chosen once. Those that are null stay the library's
 * defaults.
 *
 * @param beta1 decay of the first moment
 * @param beta2 decay of the second moment
 * @param beta3 AdEMAMix: decay of the slow moment
 * @param alpha AdEMAMix: weight of the slow moment; RMSprop: what beta2 is elsewhere
 * @param momentum SGD, LARS
 * @param eps what keeps the denominator from 0
 * @param weightDecay before a group's factor
 * @param trustCoefficient LARS: eta
 * @param gamma Sophia-G: gamma
 * @param nesterov SGD: Nesterov's momentum
 * @param stochasticStates whether 8-bit states are rounded stochastically
 */
public record OptimizerNumbers(
        Double beta1,
        Double beta2,
        Double beta3,
        Double alpha,
        Double momentum,
        Double eps,
        Double weightDecay,
        Double trustCoefficient,
        Double gamma,
        boolean nesterov,
        boolean stochasticStates) {
    /** Leaves everything to the library. */
    public static final OptimizerNumbers DEFAULTS =
            new OptimizerNumbers(
                    null, null, null, null, null, null, null, null, null, false, false);

    /** The same with defaults of the caller's, used where a number is null. */
    public OptimizerNumbers orElse(Double newBeta2, Double newMomentum, Double newWeightDecay) {
        return new OptimizerNumbers(
                beta1,
                beta2 == null ? newBeta2 : beta2,
                beta3,
                alpha,
                momentum == null ? newMomentum : momentum,
                eps,
                weightDecay == null ? newWeightDecay : weightDecay,
                trustCoefficient,
                gamma,
                nesterov,
                stochasticStates);
    }

    /** Sets what is not left to the library. */
    public void apply(UpdateRule rule, Hyperparameters h) {
        set(beta1, h::beta1);
        set(beta2, h::beta2);
        set(beta3, h::beta3);
        set(alpha, rule == UpdateRule.RMSPROP ? h::beta2 : h::alpha);
        set(momentum, h::momentum);
        set(eps, h::eps);
        set(weightDecay, h::weightDecay);
        set(trustCoefficient, h::trustCoefficient);
        set(gamma, h::gamma);
        h.nesterov(nesterov).stochasticStates(stochasticStates);
    }

    private static void set(Double value, DoubleFunction<Hyperparameters> setter) {
        if (value != null) {
            setter.apply(value);
        }
    }
}
