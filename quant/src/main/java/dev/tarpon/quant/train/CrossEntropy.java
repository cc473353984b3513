package dev.tarpon.quant.train;

/** The mean of -log softmax(logits)[target] over rows, and its gradient. */
final class CrossEntropy {
    private CrossEntropy() {}

    /** The mean loss in nats; the logits stay. */
    static double loss(float[][] logits, int[] targets) {
        double[] losses = new double[logits.length];
        Rows.forBlocks(
                logits.length,
                (block, from, to) -> {
                    for (int t = from; t < to; t++) {
                        float max = max(logits[t]);
                        double sum = 0;
                        for (float logit : logits[t]) {
                            sum += Math.exp(logit - max);
                        }
                        losses[t] = Math.log(sum) + max - logits[t][targets[t]];
                    }
                });
        return mean(losses);
    }

    /** The mean loss in nats; the logits become the gradient of that mean. */
    static double lossAndGradient(float[][] logits, int[] targets) {
        double[] losses = new double[logits.length];
        float factor = 1f / logits.length;
        Rows.forBlocks(
                logits.length,
                (block, from, to) -> {
                    for (int t = from; t < to; t++) {
                        float chosen = logits[t][targets[t]];
                        double logSum = softmax(logits[t]);
                        losses[t] = logSum - chosen;
                        logits[t][targets[t]] -= 1;
                        scale(logits[t], factor);
                    }
                });
        return mean(losses);
    }

    /** Turns logits into probabilities; returns the logarithm of the sum of exponentials. */
    static double softmax(float[] x) {
        float max = max(x);
        double sum = 0;
        for (int i = 0; i < x.length; i++) {
            x[i] = (float) Math.exp(x[i] - max);
            sum += x[i];
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
