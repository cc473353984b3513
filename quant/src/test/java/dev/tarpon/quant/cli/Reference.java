package dev.tarpon.quant.cli;

import dev.tarpon.format.HostTensor;

import java.lang.foreign.ValueLayout;

/** Plain arithmetic that the operations are compared with. */
final class Reference {
    private Reference() {}

    static float[] transpose(float[] values, int rows, int columns) {
        float[] result = new float[values.length];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < columns; c++) {
                result[c * rows + r] = values[r * columns + c];
            }
        }
        return result;
    }

    /** x [m, k] times (codes - 8) * scales, in fp64. */
    static float[] product(HostTensor x, HostTensor codes, HostTensor scales, int group) {
        int m = (int) x.dimension(0);
        int k = (int) codes.dimension(0);
        int n = (int) codes.dimension(1);
        float[] a = x.toFloats();
        byte[] q = codes.data().toArray(ValueLayout.JAVA_BYTE);
        float[] s = scales.toFloats();
        float[] y = new float[m * n];
        for (int row = 0; row < m; row++) {
            for (int column = 0; column < n; column++) {
                double sum = 0;
                for (int i = 0; i < k; i++) {
                    int scaleRow = group == -1 ? 0 : i / group;
                    double weight = (q[i * n + column] - 8) * (double) s[scaleRow * n + column];
                    sum += a[row * k + i] * weight;
                }
                y[row * n + column] = (float) sum;
            }
        }
        return y;
    }

    /** mean |actual - expected| / mean |expected|; NaN if anything is NaN. */
    static double meanRelativeError(float[] actual, float[] expected) {
        double difference = 0;
        double size = 0;
        for (int i = 0; i < expected.length; i++) {
            difference += Math.abs((double) actual[i] - expected[i]);
            size += Math.abs(expected[i]);
        }
        return difference / size;
    }
}
