package dev.tarpon.quant.train;

import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.util.Locale;
import java.util.Objects;

/**
 * How parameters are stepped.
 *
 * @param rule the optimizer
 * @param state format of the states; norms' weights are too small for any but F32
 * @param embeddingState32 whether the embedding's states are F32 whatever the others are
 * @param numbers the optimizer's; the weight decay is that of matrices, norms have none
 * @param maxGradNorm where the norm over all gradients is clipped; 0 does not clip
 * @param hessianEvery of Sophia-G: steps between two refreshes of the curvature
 */
public record OptimizerSettings(
        UpdateRule rule,
        StateFormat state,
        boolean embeddingState32,
        OptimizerNumbers numbers,
        double maxGradNorm,
        int hessianEvery) {
    /** Checks what the library does not. */
    public OptimizerSettings {
        Objects.requireNonNull(numbers, "numbers");
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
                rule, format, embeddingState32, numbers, maxGradNorm, hessianEvery);
    }

    /** Sets what is not left to the library. */
    void apply(Hyperparameters h) {
        numbers.apply(rule, h);
        h.maxGradNorm(maxGradNorm).skipNonfinite(true);
    }
}
