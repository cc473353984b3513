package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.CodeMap;
import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.optim.UpdateRule;

import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** optim-step with every optimizer and format of states against {@link OptimReference}. */
class OpOptimStepReferenceTest {
    private static final int ROWS = 35;
    private static final int COLUMNS = 20;
    private static final int N = ROWS * COLUMNS; // two blocks of 256 and a part of one
    private static final int STEPS = 4;

    private static final Map<String, Integer> SLOTS =
            Map.ofEntries(
                    Map.entry("adam", 2),
                    Map.entry("adamw", 2),
                    Map.entry("sgd", 1),
                    Map.entry("rmsprop", 1),
                    Map.entry("adagrad", 1),
                    Map.entry("lion", 1),
                    Map.entry("ademamix", 3),
                    Map.entry("lamb", 2),
                    Map.entry("lars", 1),
                    Map.entry("adabelief", 2),
                    Map.entry("sophiag", 2),
                    Map.entry("scale", 0));

    @TempDir Path folder;

    static Stream<Arguments> cases() {
        List<Arguments> cases = new ArrayList<>();
        for (String device : List.of("cpu", "sim")) {
            for (UpdateRule rule : UpdateRule.values()) {
                String name = OptimizerFlags.name(rule);
                cases.add(Arguments.of(device, name, "32bit", false));
                cases.add(Arguments.of(device, name, "8bit", false));
                if (rule == UpdateRule.ADAM || rule == UpdateRule.ADAMW) {
                    cases.add(Arguments.of(device, name, "fp8", false));
                }
            }
            cases.add(Arguments.of(device, "scale", "32bit", true));
            cases.add(Arguments.of(device, "scale", "8bit", true));
        }
        return cases.stream();
    }

    private static List<Object> flags(String rule) {
        List<Object> flags = new ArrayList<>();
        flags.addAll(List.of("--optimizer", rule, "--lr", OptimReference.LR));
        flags.addAll(List.of("--weight-decay", OptimReference.DECAY));
        List<Object> betas = List.of("--beta1", OptimReference.BETA1);
        List<Object> moments =
                List.of(
                        "--beta1", OptimReference.BETA1,
                        "--beta2", OptimReference.BETA2,
                        "--eps", OptimReference.EPS);
        List<Object> momentum = List.of("--momentum", OptimReference.MOMENTUM);
        switch (rule) {
            case "adam", "adamw", "lamb", "adabelief" -> flags.addAll(moments);
            case "sgd" -> flags.addAll(momentum);
            case "rmsprop" ->
                    flags.addAll(
                            List.of("--alpha", OptimReference.BETA2, "--eps", OptimReference.EPS));
            case "adagrad" -> flags.addAll(List.of("--eps", OptimReference.EPS));
            case "lion" ->
                    flags.addAll(
                            List.of(
                                    "--beta1", OptimReference.BETA1,
                                    "--beta2", OptimReference.BETA2));
            case "ademamix" -> {
                flags.addAll(moments);
                flags.addAll(
                        List.of("--beta3", OptimReference.BETA3, "--alpha", OptimReference.ALPHA));
            }
            case "lars" -> {
                flags.addAll(momentum);
                flags.addAll(List.of("--trust-coefficient", OptimReference.ETA));
            }
            case "sophiag" -> {
                flags.addAll(moments);
                flags.addAll(
                        List.of(
                                "--gamma", OptimReference.GAMMA,
                                "--hessian-scale", OptimReference.HESSIAN_SCALE,
                                "--hessian-every", OptimReference.HESSIAN_EVERY));
            }
            case "scale" -> flags.addAll(betas);
            default -> throw new IllegalArgumentException(rule);
        }
        return flags;
    }

    @ParameterizedTest
    @MethodSource("cases")
    void test_steps_are_those_of_double(
            String device, String rule, String format, boolean scaleMomentum) throws IOException {
        String reason = Tarpon.unavailableReason(DeviceKind.SIM).orElse("");
        assumeTrue(!device.equals("sim") || reason.isEmpty(), () -> "device sim: " + reason);
        float[] start = Tensors.random(1, N);
        float[] grads = Tensors.random(2, STEPS * N);
        Path in =
                Tensors.write(
                        folder.resolve("in.safetensors"),
                        Tensors.of("param", ElementType.F32, start, ROWS, COLUMNS),
                        Tensors.of("grads", ElementType.F32, grads, STEPS, N));
        Path out = folder.resolve("out.safetensors");
        List<Object> arguments =
                new ArrayList<>(List.of("op", "optim-step", "--in", in, "--out", out));
        arguments.addAll(List.of("--device", device, "--state", format));
        arguments.addAll(flags(rule));
        if (scaleMomentum) {
            arguments.add("--scale-momentum");
        }
        CliRun run = CliRun.of(arguments.toArray()).succeeds();
        assertTrue(!run.err().contains("not used"), run.err());

        int slots = scaleMomentum ? 1 : SLOTS.get(rule);
        var reference = new OptimReference(rule, format, start, COLUMNS, slots);
        for (int t = 0; t < STEPS; t++) {
            reference.step(Arrays.copyOfRange(grads, t * N, (t + 1) * N));
        }
        // A few roundings of p, which is below 1/2, a step; a state within rounding of the middle
        // between two codes may take either, and what follows from it.
        int far = 0;
        float[] p = Tensors.read(out, "param").toFloats();
        for (int i = 0; i < N; i++) {
            double error = Math.abs(p[i] - reference.p[i]);
            if (format.equals("32bit")) {
                assertEquals(reference.p[i], p[i], 3e-7, "param[%d]".formatted(i));
            }
            far += error > 3e-7 ? 1 : 0;
        }
        assertTrue(far <= N / 100, far + " parameters differ");
        for (int slot = 0; slot < slots; slot++) {
            double[] expected = reference.state[slot];
            double[] actual = state(out, rule, format, slot);
            int differing = 0;
            for (int i = 0; i < N; i++) {
                double bound = 1e-5 * Math.abs(expected[i]) + 1e-7;
                differing += Math.abs(actual[i] - expected[i]) > bound ? 1 : 0;
            }
            assertTrue(
                    differing <= (format.equals("32bit") ? 0 : N / 100),
                    "state%d: %d differ".formatted(slot + 1, differing));
        }
    }

    /** A state as the file has it, decoded. */
    private static double[] state(Path file, String rule, String format, int slot)
            throws IOException {
        HostTensor tensor = Tensors.read(file, "state" + (slot + 1));
        double[] values = new double[N];
        if (format.equals("32bit")) {
            float[] floats = tensor.toFloats();
            for (int i = 0; i < N; i++) {
                values[i] = floats[i];
            }
            return values;
        }
        byte[] codes = Tensors.bytes(tensor);
        float[] absmax = Tensors.read(file, "absmax" + (slot + 1)).toFloats();
        boolean fp8 = format.equals("fp8");
        CodeMap map =
                fp8
                        ? CodeMap.FP8_E4M3
                        : OptimReference.isSecondMoment(rule, slot)
                                ? CodeMap.DYNAMIC_UNSIGNED
                                : CodeMap.DYNAMIC_SIGNED;
        float[] levels = map.codebook();
        for (int i = 0; i < N; i++) {
            double level = levels[codes[i] & 255];
            values[i] =
                    fp8
                            ? Math.copySign(
                                    Math.pow(Math.abs(level), 1 / (double) absmax[i / 128 * 2 + 1])
                                            * absmax[i / 128 * 2],
                                    level)
                            : level * absmax[i / 256];
        }
        return values;
    }
}
