package dev.tarpon.quant.train;

/**
 * A learning rate that rises linearly and falls along a cosine.
 *
 * @param peak reached after the warm-up
 * @param warmupSteps steps of the rise
 * @param steps of the whole run
 * @param finalFraction of the peak that the last step still has
 */
public record LearningRate(double peak, int warmupSteps, int steps, double finalFraction) {
    /** Checks the ranges. */
    public LearningRate {
        if (!(peak > 0) || Double.isInfinite(peak)) {
            throw new IllegalArgumentException("lr %s; it must be finite and > 0".formatted(peak));
        }
        if (steps < 1) {
            throw new IllegalArgumentException("steps %d; it must be >= 1".formatted(steps));
        }
        if (warmupSteps < 0 || warmupSteps > steps) {
            throw new IllegalArgumentException(
                    "warmup %d; it must be from 0 to the %d steps".formatted(warmupSteps, steps));
        }
        if (!(finalFraction >= 0 && finalFraction <= 1)) {
            throw new IllegalArgumentException(
                    "final lr fraction %s; it must be from 0 to 1".formatted(finalFraction));
        }
    }

    /** The rate of a step, counted from 0. */
    double at(int step) {
        if (step < warmupSteps) {
            return peak * (step + 1) / warmupSteps;
        }
        int length = Math.max(1, steps - 1 - warmupSteps);
        double progress = Math.min(1, (double) (step - warmupSteps) / length);
        double cosine = (1 + Math.cos(Math.PI * progress)) / 2;
        return peak * (finalFraction + (1 - finalFraction) * cosine);
    }
}
