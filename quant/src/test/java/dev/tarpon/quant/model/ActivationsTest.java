package dev.tarpon.quant.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

/** The functions between the linear layers, on values known from tables. */
class ActivationsTest {
    @Test
    void test_erf_matches_the_table() {
        // Abramowitz and Stegun, table 7.1.
        double[][] table = {
            {0, 0}, {0.5, 0.5204998778}, {1, 0.8427007929}, {1.5, 0.9661051465}, {2, 0.9953222650}
        };
        for (double[] row : table) {
            assertEquals(row[1], Activations.erf(row[0]), 1.5e-7, "erf(" + row[0] + ")");
            assertEquals(-row[1], Activations.erf(-row[0]), 1.5e-7, "erf(-" + row[0] + ")");
        }
    }

    @Test
    void test_gelu_matches_known_values() {
        float[] x = {0, 1, -1, 10, -10};
        Activations.gelu(x);
        assertArrayEquals(new float[] {0, 0.8413447f, -0.1586553f, 10, 0}, x, 1e-6f);
    }

    @Test
    void test_layer_norm_gives_mean_and_variance() {
        float[] x = {1, 2, 3, 4, 10, 20, 30, 40};
        Activations.layerNorm(x, new float[] {1, 1, 1, 2}, new float[] {0, 0, 0, 5}, 0);
        float outer = (float) (1.5 / Math.sqrt(1.25));
        float inner = (float) (0.5 / Math.sqrt(1.25));
        float[] row = {-outer, -inner, inner, 2 * outer + 5};
        assertArrayEquals(
                new float[] {row[0], row[1], row[2], row[3], row[0], row[1], row[2], row[3]},
                x,
                1e-6f);
    }

    @Test
    void test_softmax_survives_large_scores() {
        float[] x = {1000, 1000, -1000, 7};
        Activations.softmax(x, 3);
        assertArrayEquals(new float[] {0.5f, 0.5f, 0, 7}, x, 1e-7f);
    }
}
