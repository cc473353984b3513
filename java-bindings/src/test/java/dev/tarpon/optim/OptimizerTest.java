package dev.tarpon.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.HalfFloats;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.TestDevices;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Random;

/** Steps on every device, against AdamW in fp64, and what an optimizer keeps and counts. */
class OptimizerTest {
    private static final int STEPS = 6;
    private static final double LR = 1e-2;

    static float[] random(long seed, int count) {
        Random random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static Parameter parameter(Device device, String name, float[] values) {
        return new Parameter(
                name,
                device.allocate(DType.F32, values.length).copyFrom(values),
                device.allocate(DType.F32, values.length).copyFrom(new float[values.length]));
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void adamwWithStatesIn32BitsIsThatOfFp64(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            float[][] values = {random(1, 1), random(2, 300), random(3, 5000)};
            // Parameter 1 is in a group with half the learning rate and without decay.
            double[] lrFactors = {1, 0.5, 1};
            double[] decayFactors = {1, 0, 1};
            Parameter[] parameters = new Parameter[3];
            AdamReference[] references = new AdamReference[3];
            for (int i = 0; i < 3; i++) {
                parameters[i] = parameter(device, "p" + i, values[i]);
                references[i] = new AdamReference(values[i], false);
            }
            try (Optimizer optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(UpdateRule.ADAMW, StateFormat.F32),
                            List.of(
                                    new ParameterGroup(List.of(parameters[0], parameters[2])),
                                    new ParameterGroup(List.of(parameters[1]), 0.5, 1)
                                            .withoutDecay()))) {
                optimizer.hyperparameters().weightDecay(0.1).beta2(0.99);
                for (int step = 0; step < STEPS; step++) {
                    double lr = LR / (1 + step);
                    for (int i = 0; i < 3; i++) {
                        float[] g = random(100 * step + i, values[i].length);
                        parameters[i].gradient().copyFrom(g);
                        references[i].step(
                                g,
                                lr * lrFactors[i],
                                0.1 * decayFactors[i],
                                optimizer.hyperparameters());
                    }
                    optimizer.step(lr, stream);
                }
                for (int i = 0; i < 3; i++) {
                    float[] actual = parameters[i].value().toFloatArray();
                    for (int j = 0; j < actual.length; j++) {
                        // Each step rounds p once, and its own change to a few ulp.
                        double expected = references[i].p[j];
                        double bound = STEPS * (Math.ulp((float) expected) + 1e-5 * LR);
                        assertEquals(expected, actual[j], bound, "p%d[%d]".formatted(i, j));
                    }
                }
                assertEquals(new OptimizerCounters(STEPS, 0, 0, 0), optimizer.counters());
            }
        }
    }

    /** A state on the edge between two codes may go either way: so mean and maximum are bounded. */
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void adamwWithStatesIn8BitsIsThatOfRoundedStates(String spec) {
        int n = 5000;
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            Parameter parameter = parameter(device, "p", random(1, n));
            AdamReference reference = new AdamReference(random(1, n), true);
            try (Optimizer optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(UpdateRule.ADAMW),
                            List.of(new ParameterGroup(List.of(parameter))))) {
                for (int step = 0; step < STEPS; step++) {
                    float[] g = random(100 + step, n);
                    parameter.gradient().copyFrom(g);
                    reference.step(g, LR, 0.01, optimizer.hyperparameters());
                    optimizer.step(LR, stream);
                }
                float[] actual = parameter.value().toFloatArray();
                double sum = 0;
                for (int i = 0; i < n; i++) {
                    double error = Math.abs(actual[i] - reference.p[i]);
                    assertTrue(error <= 0.2 * LR * STEPS, "p[%d]: error %g".formatted(i, error));
                    sum += error;
                }
                assertTrue(sum / n <= 1e-3 * LR, "mean error " + sum / n);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void everyRuleDescends(String spec) {
        int n = 4096;
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                Tensor value = device.allocate(DType.F32, 64, 64);
                Tensor gradient = device.allocate(DType.F32, 64, 64)) {
            for (UpdateRule rule : UpdateRule.values()) {
                value.copyFrom(random(5, n));
                double before = norm(value.toFloatArray());
                Parameter parameter = new Parameter("p", value, gradient).withMomentum();
                try (Optimizer optimizer =
                        Optimizer.create(
                                device,
                                new OptimizerOptions(rule),
                                List.of(new ParameterGroup(List.of(parameter))))) {
                    // The loss is |p|^2 / 2, so the gradient is p.
                    for (int step = 0; step < 5; step++) {
                        gradient.copyFrom(value.toFloatArray());
                        if (rule == UpdateRule.SOPHIAG) {
                            optimizer.refreshHessian(stream);
                        }
                        optimizer.step(1e-2, stream);
                    }
                    double after = norm(value.toFloatArray());
                    assertTrue(
                            after < before && after > 0.5 * before,
                            "%s: %g to %g".formatted(rule, before, after));
                    assertEquals(5, optimizer.counters().step(), rule.toString());
                }
            }
        }
    }

    private static double norm(float[] values) {
        double sum = 0;
        for (float value : values) {
            sum += (double) value * value;
        }
        return Math.sqrt(sum);
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void gradientsThatAreNotFiniteAreSkippedAndCounted(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            float[] values = random(1, 600);
            Parameter parameter = parameter(device, "p", values);
            float[] g = random(2, 600);
            g[300] = Float.NaN;
            parameter.gradient().copyFrom(g);
            try (Optimizer optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(UpdateRule.ADAMW),
                            List.of(new ParameterGroup(List.of(parameter))))) {
                optimizer.hyperparameters().skipNonfinite(true);
                optimizer.step(LR, stream);
                assertArrayEquals(values, parameter.value().toFloatArray());
                assertEquals(0, optimizer.counters().step());
                assertEquals(1, optimizer.counters().skippedSteps());

                // Now its block of 256 alone is left as it was.
                optimizer.hyperparameters().skipNonfinite(false);
                optimizer.step(LR, stream);
                float[] after = parameter.value().toFloatArray();
                for (int i = 0; i < values.length; i++) {
                    assertEquals(i / 256 == 1, values[i] == after[i], "p[%d]".formatted(i));
                }
                assertEquals(1, optimizer.counters().step());
                assertEquals(1, optimizer.counters().skippedBlocks());
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void statesAndCountersResumeBitForBit(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            Parameter parameter = parameter(device, "p", random(1, 4097));
            OptimizerOptions options = new OptimizerOptions(UpdateRule.ADAMW);
            List<ParameterGroup> groups = List.of(new ParameterGroup(List.of(parameter)));
            float[] expected;
            try (Optimizer first = Optimizer.create(device, options, groups);
                    Optimizer second = Optimizer.create(device, options, groups)) {
                train(first, parameter, 0, 3, stream);
                float[] checkpoint = parameter.value().toFloatArray();
                for (int i = 0; i < first.states().size(); i++) {
                    copy(first.states().get(i).states(), second.states().get(i).states());
                    copy(first.states().get(i).absmax(), second.states().get(i).absmax());
                }
                second.restore(first.counters());
                train(first, parameter, 3, 6, stream);
                expected = parameter.value().toFloatArray();

                parameter.value().copyFrom(checkpoint);
                train(second, parameter, 3, 6, stream);
                assertArrayEquals(expected, parameter.value().toFloatArray());
                assertEquals(first.counters(), second.counters());
            }
        }
    }

    private static void train(Optimizer optimizer, Parameter p, int from, int to, Stream stream) {
        for (int step = from; step < to; step++) {
            p.gradient().copyFrom(random(step, Math.toIntExact(p.gradient().size())));
            optimizer.step(LR, stream);
        }
    }

    private static void copy(List<Tensor> from, List<Tensor> to) {
        for (int i = 0; i < from.size(); i++) {
            byte[] bytes = new byte[Math.toIntExact(from.get(i).sizeBytes())];
            from.get(i).copyTo(MemorySegment.ofArray(bytes));
            to.get(i).copyFrom(MemorySegment.ofArray(bytes));
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void mastersAreCopiedOutRounded(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                Tensor copy = device.allocate(DType.BF16, 500)) {
            Parameter parameter = parameter(device, "p", random(1, 500)).withCopy(copy);
            parameter.gradient().copyFrom(random(2, 500));
            try (Optimizer optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(UpdateRule.LION),
                            List.of(new ParameterGroup(List.of(parameter))))) {
                optimizer.step(LR, stream);
                float[] master = parameter.value().toFloatArray();
                float[] rounded = copy.toFloatArray();
                for (int i = 0; i < master.length; i++) {
                    float expected = HalfFloats.fromBFloat16(HalfFloats.toBFloat16(master[i]));
                    assertEquals(expected, rounded[i], "copy[%d]".formatted(i));
                }
            }
        }
    }

    @Test
    void smallAndOverriddenParametersKeep32Bits() {
        try (Device device = Device.open("cpu")) {
            List<Parameter> parameters =
                    List.of(
                            parameter(device, "small", new float[4095]),
                            parameter(device, "large", new float[4096]),
                            parameter(device, "embedding", new float[9000])
                                    .withStateFormat(StateFormat.F32),
                            parameter(device, "forced", new float[10])
                                    .withStateFormat(StateFormat.DYNAMIC8));
            try (Optimizer optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(UpdateRule.ADAMW),
                            List.of(new ParameterGroup(parameters)))) {
                assertEquals(
                        List.of(
                                StateFormat.F32,
                                StateFormat.DYNAMIC8,
                                StateFormat.F32,
                                StateFormat.DYNAMIC8),
                        optimizer.states().stream().map(ParameterState::format).toList());
                // Two states each: 4 bytes an element, or a byte and 4 bytes a block of 256.
                long expected = 2 * (4 * 4095 + (4096 + 4 * 16) + 4 * 9000 + (10 + 4));
                assertEquals(expected, optimizer.stateBytes());
                assertTrue(optimizer.variant().startsWith("cpu_"), optimizer.variant());
            }
        }
    }
}
