package dev.tarpon.quant.model;

import java.util.stream.IntStream;

/** The element-wise and row-wise functions of a transformer, in place over row-major floats. */
final class Activations {
    private static final int GELU_CHUNK = 4096;
    private static final double SQRT_HALF = Math.sqrt(0.5);

    /** Highest power first. */
    private static final double[] ERF_COEFFICIENTS = {
        1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592
    };

    private Activations() {}

    /** Adds a bias to every row. */
    static void addBias(float[] x, float[] bias) {
        for (int at = 0; at < x.length; at += bias.length) {
            for (int i = 0; i < bias.length; i++) {
                x[at + i] += bias[i];
            }
        }
    }

    /** x += y. */
    static void add(float[] x, float[] y) {
        for (int i = 0; i < x.length; i++) {
            x[i] += y[i];
        }
    }

    /** Normalises every row to mean 0 and variance 1, then scales and shifts. */
    static void layerNorm(float[] x, float[] scale, float[] shift, float epsilon) {
        int width = scale.length;
        for (int at = 0; at < x.length; at += width) {
            double sum = 0;
            for (int i = 0; i < width; i++) {
                sum += x[at + i];
            }
            double mean = sum / width;
            double squares = 0;
            for (int i = 0; i < width; i++) {
                double d = x[at + i] - mean;
                squares += d * d;
            }
            double inverse = 1 / Math.sqrt(squares / width + epsilon);
            for (int i = 0; i < width; i++) {
                x[at + i] = (float) ((x[at + i] - mean) * inverse) * scale[i] + shift[i];
            }
        }
    }

    /** The exact GELU, x * (1 + erf(x / sqrt 2)) / 2; on all processors, for its exponentials. */
    static void gelu(float[] x) {
        IntStream.range(0, Math.ceilDiv(x.length, GELU_CHUNK))
                .parallel()
                .forEach(
                        chunk -> {
                            int from = chunk * GELU_CHUNK;
                            int to = Math.min(x.length, from + GELU_CHUNK);
                            for (int i = from; i < to; i++) {
                                x[i] = (float) (0.5 * x[i] * (1 + erf(x[i] * SQRT_HALF)));
                            }
                        });
    }

    /**
     * The error function with an absolute error under 1.5e-7, which is half a unit in the last
     * place of a float near 1. Source: Abramowitz and Stegun, formula 7.1.26.
     */
    static double erf(double x) {
        double t = 1 / (1 + 0.3275911 * Math.abs(x));
        double series = 0;
        for (double coefficient : ERF_COEFFICIENTS) {
            series = (series + coefficient) * t;
        }
        return Math.copySign(1 - series * Math.exp(-x * x), x);
    }

    /** Turns a row of scores into weights that sum to 1. */
    static void softmax(float[] x, int length) {
        float max = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < length; i++) {
            max = Math.max(max, x[i]);
        }
        float sum = 0;
        for (int i = 0; i < length; i++) {
            x[i] = (float) Math.exp(x[i] - max);
            sum += x[i];
        }
        for (int i = 0; i < length; i++) {
            x[i] /= sum;
        }
    }
}
