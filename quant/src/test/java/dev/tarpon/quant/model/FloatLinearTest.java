package dev.tarpon.quant.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.util.Random;

/** The blocked loops against the plain definition, at sizes around every block's edge. */
class FloatLinearTest {
    @ParameterizedTest
    @CsvSource({"1, 1, 1", "3, 5, 7", "16, 4, 256", "17, 6, 257", "33, 127, 300", "0, 8, 8"})
    void test_linear_equals_the_definition(int rows, int k, int n) {
        var random = new Random(rows * 1000L + n);
        float[] w = randomValues(random, k * n);
        float[] x = randomValues(random, rows * k);
        float[] y = randomValues(random, rows * n);
        new FloatLinear(new Matrix(k, n, w)).apply(x, y, rows);
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < n; column++) {
                double expected = 0;
                for (int i = 0; i < k; i++) {
                    expected += (double) x[row * k + i] * w[i * n + column];
                }
                assertEquals(
                        expected, y[row * n + column], 1e-5, "row " + row + " column " + column);
            }
        }
    }

    private static float[] randomValues(Random random, int count) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian() * 0.3f;
        }
        return values;
    }
}
