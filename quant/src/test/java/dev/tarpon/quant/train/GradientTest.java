package dev.tarpon.quant.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.quant.llama.LlamaConfig;

import org.junit.jupiter.api.Test;

import java.util.HashMap;
import java.util.Map;
import java.util.Random;

/** The backward pass against central differences of an independent forward pass in fp64. */
class GradientTest {
    private static final int SEQUENCES = 3;
    private static final int CONTEXT = 19;

    // Sizes that are no multiples of the unrolling, and more rows than one block has.
    private static final LlamaConfig CONFIG =
            new LlamaConfig(37, 22, 27, 2, 6, 2, 10, CONTEXT, 100, 1e-5, false);

    /** Elements of each parameter that are checked; a norm's 22 are all checked. */
    private static final int ELEMENTS = 22;

    private static final double STEP = 1e-4;

    private final Random random = new Random(5);
    private final int[] tokens = ids();
    private final int[] targets = ids();
    private final TrainableLlama model = model();
    private final Map<String, double[]> exact = new HashMap<>();
    private final ReferenceLlama reference = new ReferenceLlama(CONFIG, exact);

    private int[] ids() {
        return random.ints(SEQUENCES * CONTEXT, 0, CONFIG.vocabulary()).toArray();
    }

    /** Weights large enough that every nonlinearity matters, norms other than 1. */
    private TrainableLlama model() {
        var made = new TrainableLlama(CONFIG, SEQUENCES, CONTEXT);
        for (TrainableParameter parameter : made.parameters()) {
            for (float[] row : parameter.value()) {
                for (int i = 0; i < row.length; i++) {
                    row[i] =
                            (float)
                                    (parameter.isMatrix()
                                            ? 0.3 * random.nextGaussian()
                                            : 1 + 0.3 * random.nextGaussian());
                }
            }
        }
        made.refresh();
        return made;
    }

    private void copyToReference() {
        model.weights()
                .config()
                .parameterShapes()
                .keySet()
                .forEach(
                        name -> {
                            float[] values = model.weights().values(name);
                            double[] copy = new double[values.length];
                            for (int i = 0; i < copy.length; i++) {
                                copy[i] = values[i];
                            }
                            exact.put(name, copy);
                        });
    }

    @Test
    void test_train_loss_is_that_of_fp64() {
        copyToReference();
        double expected = reference.loss(tokens, targets, CONTEXT);
        assertTrue(expected > 3 && expected < 20, "a loss that means something: " + expected);
        // 60 fp32 roundings in a row of 2^-24 each.
        assertEquals(expected, model.loss(tokens, targets), 4e-6 * expected);
        assertEquals(expected, model.lossAndGradients(tokens, targets), 4e-6 * expected);
    }

    @Test
    void test_train_gradient_of_every_parameter_is_that_of_fp64() {
        copyToReference();
        model.lossAndGradients(tokens, targets);
        for (TrainableParameter parameter : model.parameters()) {
            double largest = 0;
            for (float[] row : parameter.gradient()) {
                for (float value : row) {
                    largest = Math.max(largest, Math.abs(value));
                }
            }
            assertTrue(largest > 1e-4, parameter.name() + " has no gradient to check");
            for (int n = 0; n < ELEMENTS; n++) {
                int row = parameter.isMatrix() ? random.nextInt(parameter.rows()) : 0;
                int column = parameter.isMatrix() ? random.nextInt(parameter.columns()) : n;
                double expected = difference(parameter, row, column);
                double found = parameter.gradient()[row][column];
                // fp32 sums leave 2e-6 of the largest; a central difference of 1e-4 far less.
                assertEquals(
                        expected,
                        found,
                        1e-5 * largest,
                        () -> "%s[%d][%d]".formatted(parameter.name(), row, column));
            }
        }
    }

    private double difference(TrainableParameter parameter, int row, int column) {
        double[] values = exact.get(parameter.name());
        int at = row * parameter.columns() + column;
        double original = values[at];
        values[at] = original + STEP;
        double above = reference.loss(tokens, targets, CONTEXT);
        values[at] = original - STEP;
        double below = reference.loss(tokens, targets, CONTEXT);
        values[at] = original;
        return (above - below) / (2 * STEP);
    }

    @Test
    void test_train_passes_repeat_bit_for_bit() {
        model.lossAndGradients(tokens, targets);
        Map<String, float[]> first = new HashMap<>();
        for (TrainableParameter parameter : model.parameters()) {
            first.put(parameter.name(), parameter.gradient()[parameter.rows() - 1].clone());
        }
        model.sampledGradients(tokens, 9);
        model.loss(targets, tokens);
        model.lossAndGradients(tokens, targets);
        for (TrainableParameter parameter : model.parameters()) {
            assertArrayEquals(
                    first.get(parameter.name()),
                    parameter.gradient()[parameter.rows() - 1],
                    parameter.name());
        }
    }

    /** Over many draws, labels from the model's own output have a gradient of mean zero. */
    @Test
    void test_train_sampled_gradients_average_out() {
        int draws = 400;
        TrainableParameter output = model.parameters().getLast();
        double mean = 0;
        double squares = 0;
        for (int draw = 0; draw < draws; draw++) {
            model.sampledGradients(tokens, draw);
            double value = output.gradient()[7][3];
            mean += value / draws;
            squares += value * value / draws;
        }
        double deviationOfMean = Math.sqrt(squares / draws);
        assertTrue(squares > 0, "labels are drawn");
        assertEquals(0, mean, 4 * deviationOfMean);
    }

    @Test
    void test_train_model_refuses_what_does_not_fit() {
        assertThrows(
                IllegalArgumentException.class,
                () -> new TrainableLlama(CONFIG, SEQUENCES, CONTEXT + 1));
        assertThrows(IllegalArgumentException.class, () -> model.loss(new int[CONTEXT], targets));
    }
}
