package dev.tarpon.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.TestDevices;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.Arrays;
import java.util.List;

/** The embedding's start, its norm and gradients, and what an optimizer makes of it. */
class StableEmbeddingTest {
    private static final int ROWS = 100;
    private static final int COLUMNS = 64;

    @Test
    void valuesAreXaviersUniform() {
        float[] values = StableEmbedding.xavierUniform(ROWS, COLUMNS, 3);
        double bound = Math.sqrt(6.0 / (ROWS + COLUMNS));
        double sum = 0;
        double squares = 0;
        for (float value : values) {
            assertTrue(Math.abs(value) <= bound, value + " is beyond " + bound);
            sum += value;
            squares += (double) value * value;
        }
        // Five standard errors of 6400 uniform values' mean and variance.
        double n = values.length;
        assertEquals(0, sum / n, 5 * bound / Math.sqrt(3 * n));
        assertEquals(bound * bound / 3, squares / n, 5 * bound * bound * 0.3 / Math.sqrt(n));
        assertArrayEquals(values, StableEmbedding.xavierUniform(ROWS, COLUMNS, 3));
        assertTrue(!Arrays.equals(values, StableEmbedding.xavierUniform(ROWS, COLUMNS, 4)));
    }

    @Test
    void rowsAreNormalised() {
        try (Device device = Device.open("cpu");
                StableEmbedding embedding = StableEmbedding.create(device, "e", ROWS, COLUMNS, 1)) {
            float[] output = embedding.forward(new int[] {0, 99, 7});
            for (int i = 0; i < 3; i++) {
                double sum = 0;
                double squares = 0;
                for (int j = 0; j < COLUMNS; j++) {
                    sum += output[i * COLUMNS + j];
                    squares += (double) output[i * COLUMNS + j] * output[i * COLUMNS + j];
                }
                assertEquals(0, sum / COLUMNS, 1e-6);
                assertEquals(1, squares / COLUMNS, 1e-3); // EPS beside a variance of 0.01
            }
        }
    }

    /** The loss is a fixed linear function of the output, so that differences are its gradient. */
    @Test
    void gradientsAreDifferenceQuotients() {
        int[] ids = {2, 0, 2};
        int columns = 5;
        float[] direction = OptimizerTest.random(9, ids.length * columns);
        try (Device device = Device.open("cpu");
                StableEmbedding embedding = StableEmbedding.create(device, "e", 4, columns, 1)) {
            embedding.norm().get(0).value().copyFrom(OptimizerTest.random(10, columns));
            embedding.norm().get(1).value().copyFrom(OptimizerTest.random(11, columns));
            embedding.backward(ids, direction);
            for (Parameter parameter : embedding.parameters()) {
                float[] gradient = parameter.gradient().toFloatArray();
                float[] values = parameter.value().toFloatArray();
                for (int i = 0; i < values.length; i++) {
                    float step = 0x1p-7f;
                    float[] moved = values.clone();
                    moved[i] = values[i] + step;
                    parameter.value().copyFrom(moved);
                    double above = dot(embedding.forward(ids), direction);
                    moved[i] = values[i] - step;
                    parameter.value().copyFrom(moved);
                    double below = dot(embedding.forward(ids), direction);
                    parameter.value().copyFrom(values);
                    // fp32 output over the step, and the third derivative times its square.
                    assertEquals(
                            (above - below) / (2 * step),
                            gradient[i],
                            5e-3 * (1 + Math.abs(gradient[i])),
                            "%s[%d]".formatted(parameter.name(), i));
                }
            }
            float[] table = embedding.table().gradient().toFloatArray();
            assertArrayEquals(new float[columns], Arrays.copyOfRange(table, columns, 2 * columns));
        }
    }

    private static double dot(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += (double) a[i] * b[i];
        }
        return sum;
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void theTableHas32BitStatesAndOnlyItsUsedRowsMove(String spec) {
        int[] ids = {5, 17};
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                StableEmbedding embedding = StableEmbedding.create(device, "e", ROWS, COLUMNS, 1);
                Optimizer optimizer =
                        Optimizer.create(
                                device,
                                new OptimizerOptions(UpdateRule.ADAM),
                                List.of(
                                        new ParameterGroup(List.of(embedding.table())),
                                        new ParameterGroup(embedding.norm()).withoutDecay()))) {
            assertTrue(embedding.table().value().size() > OptimizerOptions.MIN_QUANTIZED_SIZE);
            assertEquals(StateFormat.F32, optimizer.states().getFirst().format());
            assertEquals(
                    List.of("e.weight", "e.norm.weight", "e.norm.bias"),
                    embedding.parameters().stream().map(Parameter::name).toList());
            float[] before = embedding.table().value().toFloatArray();
            for (int step = 0; step < 3; step++) {
                float[] output = embedding.forward(ids);
                for (int i = 0; i < output.length; i++) {
                    output[i] -= i % 3; // half the squared distance to a pattern
                }
                embedding.backward(ids, output);
                optimizer.step(1e-2, stream);
            }
            float[] after = embedding.table().value().toFloatArray();
            for (int row = 0; row < ROWS; row++) {
                boolean used = row == 5 || row == 17;
                boolean moved =
                        !Arrays.equals(
                                before,
                                row * COLUMNS,
                                (row + 1) * COLUMNS,
                                after,
                                row * COLUMNS,
                                (row + 1) * COLUMNS);
                assertEquals(used, moved, "row " + row);
            }
        }
    }

    @Test
    void badInputIsNamed() {
        try (Device device = Device.open("cpu");
                StableEmbedding embedding = StableEmbedding.create(device, "e", 4, 3, 1)) {
            String id =
                    assertThrows(
                                    IllegalArgumentException.class,
                                    () -> embedding.forward(new int[] {4}))
                            .getMessage();
            assertTrue(id.contains("id 4") && id.contains("4 rows"), id);
            String size =
                    assertThrows(
                                    IllegalArgumentException.class,
                                    () -> embedding.backward(new int[2], new float[5]))
                            .getMessage();
            assertTrue(size.contains("6") && size.contains("5"), size);
            assertThrows(
                    IllegalArgumentException.class,
                    () -> StableEmbedding.create(device, "e", 0, 3, 1));
        }
    }
}
