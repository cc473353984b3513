package dev.tarpon.quant.train;

import java.util.Arrays;

/**
 * y = w x / sqrt(mean(x^2) + epsilon) for every row, forward and backward (Zhang and Sennrich,
 * "Root Mean Square Layer Normalization").
 */
final class RmsNorm {
    private final TrainableParameter weight;
    private final double epsilon;

    /** 1 / sqrt(mean(x^2) + epsilon) of the rows of the last forward pass. */
    private final float[] inverse;

    RmsNorm(String name, int width, double epsilon, int maxRows) {
        this.weight = new TrainableParameter(name, 1, width);
        this.epsilon = epsilon;
        this.inverse = new float[maxRows];
    }

    TrainableParameter weight() {
        return weight;
    }

    void forward(float[][] x, float[][] y) {
        float[] w = weight.value()[0];
        Rows.forBlocks(
                x.length,
                (block, from, to) -> {
                    for (int t = from; t < to; t++) {
                        double meanSquare = (double) Rows.dot(x[t], x[t]) / w.length;
                        inverse[t] = (float) (1 / Math.sqrt(meanSquare + epsilon));
                        scale(x[t], inverse[t], w, y[t]);
                    }
                });
    }

    private static void scale(float[] x, float factor, float[] w, float[] y) {
        for (int i = 0; i < w.length; i++) {
            y[i] = x[i] * factor * w[i];
        }
    }

    /**
     * dX += the gradient through the norm; dW is overwritten.
     *
     * @param x what the last forward pass had
     */
    void backward(float[][] dy, float[][] x, float[][] dx) {
        float[] w = weight.value()[0];
        float[][] partial = new float[Rows.blocks(x.length)][w.length];
        Rows.forBlocks(
                x.length,
                (block, from, to) -> {
                    float[] dn = new float[w.length];
                    for (int t = from; t < to; t++) {
                        backwardRow(dy[t], x[t], inverse[t], w, dn, dx[t], partial[block]);
                    }
                });
        float[] dw = weight.gradient()[0];
        Arrays.fill(dw, 0);
        for (float[] sums : partial) {
            Rows.add(dw, sums);
        }
    }

    /** With n = x r and r the inverse: dx = r (dn - n mean(dn n)), where dn = dy w. */
    private static void backwardRow(
            float[] dy, float[] x, float r, float[] w, float[] dn, float[] dx, float[] dw) {
        for (int i = 0; i < w.length; i++) {
            dn[i] = dy[i] * w[i];
            dw[i] += dy[i] * x[i] * r;
        }
        float mean = Rows.dot(dn, x) * r / w.length;
        for (int i = 0; i < w.length; i++) {
            dx[i] += r * (dn[i] - x[i] * r * mean);
        }
    }
}
