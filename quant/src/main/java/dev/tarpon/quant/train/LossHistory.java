package dev.tarpon.quant.train;

import java.util.ArrayList;
import java.util.List;

/**
 * How a run went: the loss of every step's own windows, and of held-out text now and then.
 *
 * @param training nats a token, of step 1, 2, ...
 * @param heldOut measurements in the order of their steps
 */
record LossHistory(List<Double> training, List<Measurement> heldOut) {
    /**
     * A measurement on held-out text.
     *
     * @param step steps taken before it
     * @param loss nats a token
     */
    record Measurement(int step, double loss) {}

    /** An empty history. */
    LossHistory() {
        this(new ArrayList<>(), new ArrayList<>());
    }

    /** Steps taken. */
    int steps() {
        return training.size();
    }

    /** The mean over the last steps, at most so many. */
    double recentTraining(int count) {
        return training.subList(Math.max(0, training.size() - count), training.size()).stream()
                .mapToDouble(Double::doubleValue)
                .average()
                .orElse(Double.NaN);
    }
}
