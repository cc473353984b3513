package dev.tarpon.quant.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.util.Random;

/** Matrix products and the exponential function against fp64. */
class NumericsTest {
    @ParameterizedTest
    @CsvSource({"1, 1, 1", "2, 4, 16", "3, 5, 7", "33, 9, 513", "65, 130, 31", "31, 66, 1030"})
    void test_train_products_are_those_of_fp64(int m, int k, int n) {
        var random = new Random(m * 31 + n);
        float[][] a = matrix(random, m, k);
        float[][] b = matrix(random, k, n);
        float[][] transposed = new float[k][m];
        Rows.transpose(a, transposed);
        float[][] product = matrix(random, m, n);
        MatMul.multiply(a, b, product);
        float[][] fromTransposed = matrix(random, m, n);
        MatMul.multiplyTransposed(transposed, b, fromTransposed);
        float[][] twice = matrix(random, m, n);
        MatMul.multiply(a, b, twice);
        MatMul.add(a, b, twice);
        for (int i = 0; i < m; i++) {
            for (int j = 0; j < n; j++) {
                double exact = 0;
                double magnitude = 0;
                for (int d = 0; d < k; d++) {
                    exact += (double) a[i][d] * b[d][j];
                    magnitude += Math.abs((double) a[i][d] * b[d][j]);
                }
                // k roundings of at most half a unit of partial sums within the magnitude.
                double bound = k * 0x1p-24 * magnitude;
                String at = "[%d][%d]".formatted(i, j);
                assertEquals(exact, product[i][j], bound, at);
                assertEquals(exact, fromTransposed[i][j], bound, at);
                assertEquals(2 * exact, twice[i][j], 4 * bound, at);
            }
        }
    }

    private static float[][] matrix(Random random, int rows, int columns) {
        float[][] matrix = new float[rows][columns];
        for (float[] row : matrix) {
            for (int j = 0; j < columns; j++) {
                row[j] = (float) random.nextGaussian();
            }
        }
        return matrix;
    }

    @Test
    void test_train_exponential_is_within_a_unit() {
        var random = new Random(11);
        float[] x = new float[100_000];
        for (int i = 0; i < x.length; i++) {
            x[i] = -87 + 175 * random.nextFloat();
        }
        x[0] = 0;
        x[1] = -0f;
        x[2] = 88;
        x[3] = -87;
        x[4] = Float.MIN_VALUE;
        float[] y = x.clone();
        Exponential.apply(y, y.length - 1, new int[y.length - 1]);
        for (int i = 0; i < y.length - 1; i++) {
            double exact = Math.exp(x[i]);
            assertEquals(exact, y[i], Math.ulp((float) exact), "e^" + x[i]);
        }
        assertEquals(1, y[0]);
        assertEquals(x[x.length - 1], y[x.length - 1], "behind the length nothing changes");
        float[] outside = {-200, Float.NEGATIVE_INFINITY, 200, Float.NaN};
        Exponential.apply(outside, 4, new int[4]);
        assertEquals(Math.exp(-87), outside[0], 1e-44);
        assertEquals(Math.exp(-87), outside[1], 1e-44);
        assertEquals(Math.exp(88), outside[2], 1e32);
        assertEquals(Float.NaN, outside[3]);
    }
}
