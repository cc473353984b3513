package dev.tarpon.quant.model;

import dev.tarpon.format.Shapes;

/**
 * A weight matrix in host memory.
 *
 * @param inFeatures rows
 * @param outFeatures columns
 * @param values [inFeatures, outFeatures], row-major
 */
public record Matrix(int inFeatures, int outFeatures, float[] values) {
    /** Checks the size. */
    public Matrix {
        if (values.length != Math.multiplyExact(inFeatures, outFeatures)) {
            throw new IllegalArgumentException(
                    "matrix %s does not have %d values"
                            .formatted(Shapes.text(inFeatures, outFeatures), values.length));
        }
    }

    /** The values as [outFeatures, inFeatures], the order in which torch keeps a weight. */
    public float[] transposed() {
        return transpose(values, inFeatures, outFeatures);
    }

    /** A matrix from values in the order [outFeatures, inFeatures]. */
    public static Matrix ofOutFeaturesFirst(int inFeatures, int outFeatures, float[] values) {
        return new Matrix(inFeatures, outFeatures, transpose(values, outFeatures, inFeatures));
    }

    private static float[] transpose(float[] values, int rows, int columns) {
        float[] result = new float[values.length];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < columns; c++) {
                result[c * rows + r] = values[r * columns + c];
            }
        }
        return result;
    }
}
