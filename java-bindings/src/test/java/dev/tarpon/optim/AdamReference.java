package dev.tarpon.optim;

import dev.tarpon.CodeMap;

/** AdamW of one parameter in plain Java, in fp64, from its paper (Loshchilov and Hutter, 2019). */
final class AdamReference {
    private static final int BLOCK = 256;

    final double[] p;
    private final double[] m;
    private final double[] v;
    private final boolean quantized;
    private final float[] signed = CodeMap.DYNAMIC_SIGNED.codebook();
    private final float[] unsigned = CodeMap.DYNAMIC_UNSIGNED.codebook();
    private int steps;

    /** {@code quantized}: states are rounded to the 8-bit maps after each step. */
    AdamReference(float[] values, boolean quantized) {
        this.p = new double[values.length];
        this.m = new double[values.length];
        this.v = new double[values.length];
        this.quantized = quantized;
        for (int i = 0; i < values.length; i++) {
            p[i] = values[i];
        }
    }

    void step(float[] g, double lr, double decay, Hyperparameters h) {
        steps++;
        double bias1 = 1 - Math.pow(h.beta1(), steps);
        double bias2 = 1 - Math.pow(h.beta2(), steps);
        for (int i = 0; i < p.length; i++) {
            m[i] = h.beta1() * m[i] + (1 - h.beta1()) * g[i];
            v[i] = h.beta2() * v[i] + (1 - h.beta2()) * g[i] * g[i];
            p[i] *= 1 - lr * decay;
            p[i] -= lr * (m[i] / bias1) / (Math.sqrt(v[i] / bias2) + h.eps());
        }
        if (quantized) {
            round(m, signed);
            round(v, unsigned);
        }
    }

    private static void round(double[] state, float[] map) {
        for (int begin = 0; begin < state.length; begin += BLOCK) {
            int end = Math.min(state.length, begin + BLOCK);
            double absmax = 0;
            for (int i = begin; i < end; i++) {
                absmax = Math.max(absmax, Math.abs(state[i]));
            }
            for (int i = begin; i < end && absmax > 0; i++) {
                double nearest = map[0];
                for (float level : map) {
                    if (Math.abs(level - state[i] / absmax)
                            < Math.abs(nearest - state[i] / absmax)) {
                        nearest = level;
                    }
                }
                state[i] = nearest * absmax;
            }
        }
    }
}
