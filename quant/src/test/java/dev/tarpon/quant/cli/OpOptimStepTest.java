package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** optim-step against plain arithmetic and golden trajectories. */
class OpOptimStepTest {
    @TempDir Path folder;

    private Path out() {
        return folder.resolve("out.safetensors");
    }

    private CliRun run(HostTensor param, HostTensor grads, Object... flags) throws IOException {
        Path in = Tensors.write(folder.resolve("in.safetensors"), param, grads);
        List<Object> arguments =
                new ArrayList<>(List.of("op", "optim-step", "--in", in, "--out", out()));
        arguments.addAll(List.of(flags));
        return CliRun.of(arguments.toArray());
    }

    private static HostTensor param(int n) {
        return Tensors.of("param", ElementType.F32, Tensors.random(1, n), n);
    }

    private static HostTensor grads(int steps, int n) {
        return Tensors.of("grads", ElementType.F32, Tensors.random(2, steps * n), steps, n);
    }

    @ParameterizedTest
    @CsvSource({"cpu", "sim"})
    void test_sgd_with_32bit_state_is_plain_momentum(String device) throws IOException {
        String reason = Tarpon.unavailableReason(DeviceKind.SIM).orElse("");
        assumeTrue(!device.equals("sim") || reason.isEmpty(), () -> "device sim: " + reason);
        int n = 300;
        int steps = 4;
        Object[] flags = {
            "--device",
            device,
            "--optimizer",
            "sgd",
            "--state",
            "32bit",
            "--lr",
            0.1,
            "--momentum",
            0.8,
            "--weight-decay",
            0.01
        };
        run(param(n), grads(steps, n), flags).succeeds();
        double[] p = new double[n];
        double[] m = new double[n];
        float[] start = param(n).toFloats();
        float[] g = grads(steps, n).toFloats();
        for (int i = 0; i < n; i++) {
            p[i] = start[i];
            for (int t = 0; t < steps; t++) {
                m[i] = 0.8 * m[i] + g[t * n + i] + 0.01 * p[i];
                p[i] -= 0.1 * m[i];
            }
        }
        float[] actual = Tensors.read(out(), "param").toFloats();
        float[] state = Tensors.read(out(), "state1").toFloats();
        for (int i = 0; i < n; i++) {
            // A few roundings a step of numbers below 1.
            assertEquals(p[i], actual[i], 1e-6, "param[%d]".formatted(i));
            assertEquals(m[i], state[i], 1e-6, "state1[%d]".formatted(i));
        }
        try (SafetensorsFile file = SafetensorsFile.open(out())) {
            assertEquals("4", file.metadata().get("step"));
            assertEquals(2, file.tensors().size(), "32-bit states have no absmax");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "adamw, 8bit, 2, U8, 2",
        "adamw, fp8, 2, U8, 6",
        "ademamix, 8bit, 3, U8, 2",
        "lion, 8bit, 1, U8, 2",
        "sophiag, 32bit, 2, F32, 0",
        "scale, 8bit, 0, U8, 0"
    })
    void test_states_have_the_rules_slots(
            String rule, String state, int slots, ElementType type, int absmax) throws IOException {
        HostTensor param = Tensors.of("param", ElementType.BF16, Tensors.random(1, 300), 20, 15);
        run(param, grads(3, 300), "--optimizer", rule, "--state", state, "--lr", 1e-2).succeeds();
        HostTensor stepped = Tensors.read(out(), "param");
        assertEquals(ElementType.BF16, stepped.type());
        assertArrayEquals(new long[] {20, 15}, stepped.shape());
        try (SafetensorsFile file = SafetensorsFile.open(out())) {
            for (int i = 1; i <= 3; i++) {
                assertEquals(i <= slots, file.find("state" + i).isPresent(), "state" + i);
                boolean scales = i <= slots && absmax > 0;
                assertEquals(scales, file.find("absmax" + i).isPresent(), "absmax" + i);
                if (i <= slots) {
                    assertEquals(type, file.find("state" + i).orElseThrow().type());
                    assertEquals(300, file.find("state" + i).orElseThrow().elements());
                }
                if (scales) {
                    assertEquals(absmax, file.find("absmax" + i).orElseThrow().elements());
                }
            }
        }
    }

    /** The bounds are those of the library's own test of these trajectories. */
    @ParameterizedTest
    @CsvSource({
        "adam, adam, --lr 1e-3",
        "adamw, adamw, --lr 1e-3 --weight-decay 0.01",
        "lion, lion, --lr 1e-4",
        "momentum, sgd, --lr 1e-2 --momentum 0.9",
        "rmsprop, rmsprop, --lr 1e-2 --alpha 0.99 --eps 1e-8",
        "adagrad, adagrad, --lr 1e-2 --eps 1e-10"
    })
    void test_trajectories_are_no_farther_from_fp32_than_the_golden(
            String file, String rule, String flags) throws IOException {
        Path inputs = TestPaths.golden("bnb_optim_inputs.safetensors");
        Path golden = TestPaths.golden("bnb_optim_plain_" + file + ".safetensors");
        HostTensor param = Tensors.read(inputs, "p0").renamed("param");
        HostTensor grads = Tensors.read(inputs, "grads_plain").renamed("grads");
        float[] plain = Tensors.read(golden, "ref32.step20.p").toFloats();
        float[] theirs = Tensors.read(golden, "nearest.step20.p").toFloats();
        List<Object> arguments = new ArrayList<>(List.of("--optimizer", rule));
        arguments.addAll(List.of((Object[]) flags.split(" ")));
        run(param, grads, arguments.toArray()).succeeds();
        float[] quantized = Tensors.read(out(), "param").toFloats();
        assertEquals(20, Tensors.read(out(), "absmax1").elements());
        double bound = 1.01 * meanDistance(theirs, plain) + 1e-8;
        double distance = meanDistance(quantized, plain);
        assertTrue(distance <= bound, "8bit: %g, at most %g".formatted(distance, bound));

        arguments.addAll(List.of("--state", "32bit"));
        run(param, grads, arguments.toArray()).succeeds();
        double exact = meanDistance(Tensors.read(out(), "param").toFloats(), plain);
        assertTrue(exact <= 20e-8, "32bit: " + exact);
    }

    private static double meanDistance(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += Math.abs((double) a[i] - b[i]);
        }
        return sum / a.length;
    }

    @Test
    void test_steps_with_nan_are_counted() throws IOException {
        float[] values = Tensors.random(2, 3 * 100);
        values[150] = Float.NaN;
        HostTensor grads = Tensors.of("grads", ElementType.F32, values, 3, 100);
        run(param(100), grads, "--skip-nonfinite").succeeds();
        try (SafetensorsFile file = SafetensorsFile.open(out())) {
            assertEquals("2", file.metadata().get("step"));
            assertEquals("1", file.metadata().get("skipped_steps"));
        }
    }

    @Test
    void test_numbers_that_are_not_used_are_named() throws IOException {
        CliRun run =
                run(param(100), grads(1, 100), "--optimizer", "rmsprop", "--momentum", 0.9)
                        .succeeds();
        assertTrue(run.err().contains("--momentum is not used by rmsprop"), run.err());
    }

    @Test
    void test_sgd_has_no_momentum_unless_asked_for() throws IOException {
        run(param(100), grads(2, 100), "--optimizer", "sgd", "--lr", 0.5, "--state", "32bit")
                .succeeds();
        float[] start = param(100).toFloats();
        float[] g = grads(2, 100).toFloats();
        float[] actual = Tensors.read(out(), "param").toFloats();
        for (int i = 0; i < 100; i++) {
            double expected = start[i] - 0.5 * g[i] - 0.5 * g[100 + i];
            assertEquals(expected, actual[i], 1e-7, "param[%d]".formatted(i));
        }
    }

    @Test
    void test_no_steps_leave_the_parameter() throws IOException {
        run(param(100), grads(0, 100)).succeeds();
        assertArrayEquals(Tensors.bytes(param(100)), Tensors.bytes(Tensors.read(out(), "param")));
    }

    @Test
    void test_bad_input_is_named() throws IOException {
        HostTensor flat = Tensors.of("grads", ElementType.F32, new float[100], 100);
        HostTensor ints = Tensors.of("grads", ElementType.I32, new float[100], 1, 100);
        int bad = ExitCode.BAD_INPUT;
        run(param(100), grads(2, 99)).fails(bad, "'grads'", "[2, 99]", "100 elements");
        run(param(100), flat).fails(bad, "'grads'", "[100]", "matrix");
        run(param(100), ints).fails(bad, "'grads'", "I32");
        run(param(100).renamed("w"), grads(1, 100)).fails(bad, "'param'", "is missing", "w");
        HostTensor p = param(100);
        HostTensor g = grads(1, 100);
        int usage = ExitCode.USAGE;
        run(p, g, "--optimizer", "adamax").fails(usage, "adamax", "sophiag");
        run(p, g, "--state", "4bit").fails(usage, "4bit", "32bit");
        run(p, g, "--optimizer", "sgd", "--state", "fp8").fails(usage, "FP8", "SGD");
        run(p, g, "--beta1", 1).fails(usage, "beta1 is 1");
        run(p, g, "--optimizer", "rmsprop", "--alpha", 0.9, "--beta2", 0.9)
                .fails(usage, "--alpha and --beta2");
        run(p, g, "--hessian-every", -1).fails(usage, "--hessian-every -1");
        assertTrue(Files.notExists(out()), "no output is left by a failure");
    }
}
