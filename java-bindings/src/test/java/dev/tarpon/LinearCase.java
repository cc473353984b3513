package dev.tarpon;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;

/**
 * A random layer and activations with the exact product in binary64: what the linear tests compare
 * with. The same seed gives the same case on every device.
 */
final class LinearCase {
    final int rows;
    final int in;
    final int out;
    final DType dtype;
    final QuantizedWeights weights;

    /** Activations [rows, in], already rounded to the dtype. */
    final float[] x;

    /** The exact product [rows, out]. */
    final double[] expected;

    private final double[] rowNorms;
    private final double[] columnNorms;

    private LinearCase(int rows, DType dtype, QuantizedWeights weights, float[] x) {
        this.rows = rows;
        this.in = (int) weights.inFeatures();
        this.out = (int) weights.outFeatures();
        this.dtype = dtype;
        this.weights = weights;
        this.x = x;
        float[] w = weights.dequantize();
        this.expected = multiply(x, w, rows, in, out);
        this.rowNorms = new double[rows];
        for (int m = 0; m < rows; m++) {
            for (int k = 0; k < in; k++) {
                rowNorms[m] += (double) x[m * in + k] * x[m * in + k];
            }
            rowNorms[m] = Math.sqrt(rowNorms[m]);
        }
        this.columnNorms = new double[out];
        for (int k = 0; k < in; k++) {
            for (int n = 0; n < out; n++) {
                columnNorms[n] += (double) w[k * out + n] * w[k * out + n];
            }
        }
        for (int n = 0; n < out; n++) {
            columnNorms[n] = Math.sqrt(columnNorms[n]);
        }
    }

    /** Normal weights of the usual size, quantised to nearest, and normal activations. */
    static LinearCase random(int rows, int in, int out, int groupSize, DType dtype, long seed) {
        Random random = new Random(seed);
        QuantizedWeights weights;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment dense = arena.allocate(ValueLayout.JAVA_FLOAT, (long) out * in);
            for (long i = 0; i < (long) out * in; i++) {
                float weight = (float) (random.nextGaussian() / Math.sqrt(in));
                dense.setAtIndex(ValueLayout.JAVA_FLOAT, i, weight);
            }
            weights = QuantizedWeights.quantize(dense, DType.F32, out, in, groupSize);
        }
        float[] x = new float[rows * in];
        for (int i = 0; i < x.length; i++) {
            x[i] = round((float) random.nextGaussian(), dtype);
        }
        return new LinearCase(rows, dtype, weights, x);
    }

    /**
     * Integers whose products and sums are exact in binary32, in whatever order they are added:
     * codes of all values, scales 1 and 2, activations -2..2.
     */
    static LinearCase integers(int rows, int in, int out, int groupSize, DType dtype, long seed) {
        Random random = new Random(seed);
        long groups = groupSize == -1 ? 1 : Math.ceilDiv(in, groupSize);
        QuantizedWeights weights;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment codes = arena.allocate((long) in * out);
            for (long i = 0; i < (long) in * out; i++) {
                codes.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt(16));
            }
            MemorySegment scales = arena.allocate(ValueLayout.JAVA_SHORT, groups * out);
            for (long i = 0; i < groups * out; i++) {
                short scale = HalfFloats.toFloat16(1 + random.nextInt(2));
                scales.setAtIndex(ValueLayout.JAVA_SHORT, i, scale);
            }
            weights = QuantizedWeights.of(codes, scales, out, in, groupSize);
        }
        float[] x = new float[rows * in];
        for (int i = 0; i < x.length; i++) {
            x[i] = random.nextInt(5) - 2;
        }
        return new LinearCase(rows, dtype, weights, x);
    }

    /** Given activations and weights. */
    static LinearCase of(int rows, DType dtype, QuantizedWeights weights, float[] x) {
        return new LinearCase(rows, dtype, weights, x);
    }

    /**
     * How far y[m, n] may be from the exact product:
     *
     * <ul>
     *   <li>half a unit in the last place of y's dtype, and the smallest subnormal's half;
     *   <li>the error of a binary32 sum of K products in any order, K * 2^-24 * sum |x w|;
     *   <li>on a GPU half a unit of each weight too, since MARLIN's kernel multiplies codes by
     *       scales in the type of the activations: 2^-p * sum |x w|.
     * </ul>
     *
     * with sum |x w| bounded by the product of the norms (Cauchy and Schwarz).
     */
    double bound(int m, int n, DeviceKind kind) {
        double unit = unitRoundoff(dtype);
        double weightUnit = kind == DeviceKind.CPU || dtype == DType.F32 ? 0 : unit;
        double sum = rowNorms[m] * columnNorms[n];
        return unit * Math.abs(expected[m * out + n])
                + ((in + 2) * 0x1p-24 * (1 + unit) + weightUnit) * sum
                + 0x1p-25;
    }

    /** The relative error of rounding to a dtype: 2^-p for p bits of significand. */
    static double unitRoundoff(DType dtype) {
        return switch (dtype) {
            case F32 -> 0x1p-24;
            case F16 -> 0x1p-11;
            case BF16 -> 0x1p-8;
            case U8, I32 -> throw new IllegalArgumentException(dtype.toString());
        };
    }

    /** The value as the dtype keeps it. */
    static float round(float value, DType dtype) {
        return switch (dtype) {
            case F32 -> value;
            case F16 -> HalfFloats.fromFloat16(HalfFloats.toFloat16(value));
            case BF16 -> HalfFloats.fromBFloat16(HalfFloats.toBFloat16(value));
            case U8, I32 -> throw new IllegalArgumentException(dtype.toString());
        };
    }

    private static double[] multiply(float[] x, float[] w, int rows, int in, int out) {
        double[] wide = new double[w.length];
        for (int i = 0; i < w.length; i++) {
            wide[i] = w[i];
        }
        double[] y = new double[rows * out];
        double[] row = new double[out];
        for (int m = 0; m < rows; m++) {
            java.util.Arrays.fill(row, 0);
            for (int k = 0; k < in; k++) {
                double factor = x[m * in + k];
                int base = k * out;
                for (int n = 0; n < out; n++) {
                    row[n] += factor * wide[base + n];
                }
            }
            System.arraycopy(row, 0, y, m * out, out);
        }
        return y;
    }
}
