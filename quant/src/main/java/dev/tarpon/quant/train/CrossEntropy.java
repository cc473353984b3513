package dev.tarpon.quant.train;

/** The mean of -log softmax(logits)[target] over rows, and its gradient. */
final class CrossEntropy {
    private CrossEntropy() {}

    /** The mean loss in nats; the logits become probabilities. */
    static double loss(float[][] logits, int[] targets) {
        double[] losses = new double[logits.length];
        Rows.forBlocks(
                logits.length,
                (block, from, to) -> {
                    int[] powers = new int[logits[from].length];
                    for (int t = from; t < to; t++) {
                        float chosen = logits[t][targets[t]];
                        losses[t] = softmax(logits[t], powers) - chosen;
                    }
                });
        return mean(losses);
    }

    /** The mean loss in nats; the logits become the gradient of that mean. */
    static double lossAndGradient(float[][] logits, int[] targets) {
        double loss = loss(logits, targets);
        float factor = 1f / logits.length;
        for (int t = 0; t < logits.length; t++) {
            logits[t][targets[t]] -= 1;
            scale(logits[t], factor);
        }
        return loss;
    }

    /** Turns logits into probabilities; returns the logarithm of the sum of exponentials. */
    static double softmax(float[] x, int[] powers) {
        float max = max(x);
        for (int i = 0; i < x.length; i++) {
            x[i] -= max;
        }
        Exponential.apply(x, x.length, powers);
        double sum = 0;
        for (float value : x) {
            sum += value;
        }
        scale(x, (float) (1 / sum));
        return Math.log(sum) + max;
    }

    private static float max(float[] x) {
        float max = Float.NEGATIVE_INFINITY;
        for (float value : x) {
            max = Math.max(max, value);
        }
        return max;
    }

    private static void scale(float[] x, float factor) {
        for (int i = 0; i < x.length; i++) {
            x[i] *= factor;
        }
    }

    private static double mean(double[] losses) {
        double sum = 0;
        for (double loss : losses) {
            sum += loss;
        }
        return sum / losses.length;
    }
}
