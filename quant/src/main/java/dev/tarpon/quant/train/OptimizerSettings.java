package dev.tarpon.quant.train;

import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.util.Locale;
import java.util.function.DoubleFunction;

/**
 * How parameters are stepped. Numbers that are null stay the library's defaults.
 *
 * @param rule the optimizer
 * @param state format of the states; norms' weights are too small for any but F32
 * @param embeddingState32 whether the embedding's states are F32 whatever the others are
 * @param beta1 decay of the first moment
 * @param beta2 decay of the second moment
 * @param momentum of SGD and LARS
 * @param eps what keeps the denominator from 0
 * @param weightDecay of matrices; norms have none
 * @param maxGradNorm where the norm over all gradients is clipped; 0 does not clip
 * @param hessianEvery of Sophia-G: steps between two refreshes of the curvature
 */
public record OptimizerSettings(
        UpdateRule rule,
        StateFormat state,
        boolean embeddingState32,
        Double beta1,
        Double beta2,
        Double momentum,
        Double eps,
        Double weightDecay,
        double maxGradNorm,
        int hessianEvery) {
    /** Checks what the library does not. */
    public OptimizerSettings {
        if (hessianEvery < 1) {
            throw new IllegalArgumentException(
                    "hessian every %d steps; it must be >= 1".formatted(hessianEvery));
        }
        if (state == StateFormat.FP8 && rule != UpdateRule.ADAM && rule != UpdateRule.ADAMW) {
            throw new IllegalArgumentException(
                    "state fp8 is for adam and adamw, not for "
                            + rule.name().toLowerCase(Locale.ROOT));
        }
    }

    /** The same with states in another format. */
    OptimizerSettings withState(StateFormat format) {
        return new OptimizerSettings(
                rule,
                format,
                embeddingState32,
                beta1,
                beta2,
                momentum,
                eps,
                weightDecay,
                maxGradNorm,
                hessianEvery);
    }

    /** Sets what is not left to the library. */
    void apply(Hyperparameters h) {
        set(beta1, h::beta1);
        set(beta2, h::beta2);
        set(momentum, h::momentum);
        set(eps, h::eps);
        set(weightDecay, h::weightDecay);
        h.maxGradNorm(maxGradNorm).skipNonfinite(true);
    }

    private static void set(Double value, DoubleFunction<Hyperparameters> setter) {
        if (value != null) {
            setter.apply(value);
        }
    }
}
