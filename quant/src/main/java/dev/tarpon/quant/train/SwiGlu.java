package dev.tarpon.quant.train;

/** y = silu(gate) * up, forward and backward, over rows (Shazeer, "GLU Variants"). */
final class SwiGlu {
    private SwiGlu() {}

    /**
     * Computes y and keeps the sigmoid for the backward pass.
     *
     * @param sigmoid receives 1 / (1 + exp(-gate))
     */
    static void forward(float[][] gate, float[][] up, float[][] sigmoid, float[][] y) {
        Rows.forBlocks(
                gate.length,
                (block, from, to) -> {
                    int[] powers = new int[gate[from].length];
                    for (int t = from; t < to; t++) {
                        sigmoid(gate[t], sigmoid[t], powers);
                        product(gate[t], sigmoid[t], up[t], y[t]);
                    }
                });
    }

    private static void sigmoid(float[] x, float[] y, int[] powers) {
        for (int i = 0; i < x.length; i++) {
            y[i] = -x[i];
        }
        Exponential.apply(y, y.length, powers);
        for (int i = 0; i < x.length; i++) {
            y[i] = 1 / (1 + y[i]);
        }
    }

    private static void product(float[] gate, float[] sigmoid, float[] up, float[] y) {
        for (int i = 0; i < gate.length; i++) {
            y[i] = gate[i] * sigmoid[i] * up[i];
        }
    }

    /**
     * Puts the gradients in the place of what they are of.
     *
     * @param gate becomes its gradient
     * @param up becomes its gradient
     */
    static void backward(float[][] dy, float[][] sigmoid, float[][] gate, float[][] up) {
        Rows.forBlocks(
                dy.length,
                (block, from, to) -> {
                    for (int t = from; t < to; t++) {
                        backwardRow(dy[t], sigmoid[t], gate[t], up[t]);
                    }
                });
    }

    private static void backwardRow(float[] dy, float[] sigmoid, float[] gate, float[] up) {
        for (int i = 0; i < dy.length; i++) {
            float s = sigmoid[i];
            float g = gate[i];
            float silu = g * s;
            gate[i] = dy[i] * up[i] * (s + silu * (1 - s));
            up[i] = dy[i] * silu;
        }
    }
}
