package dev.tarpon.bench.linear;

import java.util.Arrays;

/** Dense fp32 weights [inFeatures, outFeatures], eight times the memory of the 4-bit ones. */
final class JavaFp32Linear extends JavaLinear {
    private final float[][] weights;

    JavaFp32Linear(LinearCase layer, SampleLayer sample, int sets) {
        super(layer, sample, sets);
        weights = new float[sets][];
        weights[0] = sample.weights().dequantize();
        for (int i = 1; i < sets; i++) {
            weights[i] = weights[0].clone();
        }
    }

    @Override
    protected void runColumns(int set, int begin, int end) {
        float[] w = weights[set];
        for (int row = 0; row < rows; row++) {
            Arrays.fill(y, row * outFeatures + begin, row * outFeatures + end, 0);
        }
        for (int k = 0; k < inFeatures; k++) {
            for (int row = 0; row < rows; row++) {
                float a = x[row * inFeatures + k];
                addScaled(row, a, w, k * outFeatures + begin, begin, end);
            }
        }
    }
}
