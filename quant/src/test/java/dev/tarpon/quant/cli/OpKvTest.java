package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.TestPaths;
import dev.tarpon.quant.kv.KvDevices;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Random;

/** kv-roundtrip and kv-attend against the schemes' definitions in double, and golden tensors. */
class OpKvTest {
    private static final int TOKENS = 70;
    private static final int HEADS = 4;

    @TempDir Path folder;

    private Path out() {
        return folder.resolve("out.safetensors");
    }

    private CliRun run(String op, List<HostTensor> tensors, Object... flags) throws IOException {
        Path in =
                Tensors.write(folder.resolve("in.safetensors"), tensors.toArray(HostTensor[]::new));
        List<Object> arguments = new ArrayList<>(List.of("op", op, "--in", in, "--out", out()));
        arguments.addAll(List.of(flags));
        return CliRun.of(arguments.toArray());
    }

    /** Seeded inputs with outlier channels in the keys. */
    private record Data(int dim, double[][] k, double[][] v, double[] mean, int[] order) {
        static Data random(int dim) {
            var random = new Random(dim);
            int width = HEADS * dim;
            double[] mean = new double[width];
            for (int c = 0; c < width; c++) {
                mean[c] = (float) (c % 29 == 3 ? 9 * random.nextGaussian() : 0);
            }
            double[][] k = new double[TOKENS][width];
            double[][] v = new double[TOKENS][width];
            for (int t = 0; t < TOKENS; t++) {
                for (int c = 0; c < width; c++) {
                    k[t][c] = (float) (mean[c] + random.nextGaussian());
                    v[t][c] = (float) random.nextGaussian();
                }
            }
            List<Integer> order = new ArrayList<>();
            for (int c = 0; c < width; c++) {
                order.add(c);
            }
            Collections.shuffle(order, random);
            int[] numbers = order.stream().mapToInt(Integer::intValue).toArray();
            return new Data(dim, k, v, mean, numbers);
        }

        List<HostTensor> tensors() {
            float[] numbers = new float[order.length];
            for (int c = 0; c < numbers.length; c++) {
                numbers[c] = order[c];
            }
            return new ArrayList<>(
                    List.of(
                            heads("k", k, dim),
                            heads("v", v, dim),
                            matrix("k_mean", mean, dim),
                            Tensors.of("k_order", ElementType.I32, numbers, numbers.length)));
        }
    }

    private static HostTensor matrix(String name, double[] values, int columns) {
        float[] floats = new float[values.length];
        for (int i = 0; i < floats.length; i++) {
            floats[i] = (float) values[i];
        }
        return Tensors.of(name, ElementType.F32, floats, values.length / columns, columns);
    }

    private static HostTensor heads(String name, double[][] rows, int dim) {
        int width = rows[0].length;
        float[] values = new float[rows.length * width];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) rows[i / width][i % width];
        }
        return Tensors.of(name, ElementType.F32, values, rows.length, width / dim, dim);
    }

    /**
     * Compares heads. The library works in binary32, so that a value which falls between two codes
     * to within its rounding may get the other one; that moves a whole head. Such heads are rare.
     */
    private static void assertHeads(String what, double[][] expected, float[] actual, int dim) {
        int width = expected[0].length;
        int moved = 0;
        int count = expected.length * width / dim;
        String example = "";
        for (int i = 0; i < count; i++) {
            double error = 0;
            double square = 0;
            for (int c = i * dim; c < (i + 1) * dim; c++) {
                double value = expected[c / width][c % width];
                error += (actual[c] - value) * (actual[c] - value);
                square += value * value;
            }
            if (Math.sqrt(error / square) > 1e-5) {
                moved++;
                example = "token %d, head %d".formatted(i * dim / width, i % (width / dim));
            }
        }
        int most = count / 100;
        assertTrue(
                moved <= most,
                "%s: %d of %d heads differ, at most %d may; such as %s"
                        .formatted(what, moved, count, most, example));
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, TARPON, 64, 2, 2, half",
        "cpu, TARPON, 128, 4, 3, interleaved",
        "cpu, TARPON, 64, 8, 2, half",
        "cpu, ROTATEKV, 64, 2, 2, half",
        "cpu, ROTATEKV, 128, 3, 4, interleaved",
        "cpu, ROTATEKV, 64, 4, 8, half",
        "sim, TARPON, 64, 2, 2, half",
        "sim, ROTATEKV, 64, 2, 2, half",
        "cuda, TARPON, 128, 2, 2, half",
        "cuda, ROTATEKV, 128, 2, 2, half"
    })
    void test_round_trip_is_the_schemes_definition(
            String device, KvMode mode, int dim, int kBits, int vBits, String layout)
            throws IOException {
        KvDevices.open(device).close();
        Data data = Data.random(dim);
        run(
                        "kv-roundtrip",
                        data.tensors(),
                        "--device",
                        device,
                        "--mode",
                        mode.name().toLowerCase(Locale.ROOT),
                        "--k-bits",
                        kBits,
                        "--v-bits",
                        vBits,
                        "--rope-theta",
                        500,
                        "--rope-layout",
                        layout)
                .succeeds();
        var scheme = new KvScheme(mode, HEADS, dim, 500, layout.equals("interleaved"));
        double[][] keys = new double[TOKENS][];
        double[][] values = new double[TOKENS][];
        for (int t = 0; t < TOKENS; t++) {
            keys[t] = scheme.key(data.k()[t], t, kBits, data.mean(), data.order());
            values[t] = scheme.value(data.v()[t], vBits);
        }
        HostTensor k = Tensors.read(out(), "k_dequantised");
        assertArrayEquals(new long[] {TOKENS, HEADS, dim}, k.shape());
        assertHeads("keys", keys, k.toFloats(), dim);
        assertHeads("values", values, Tensors.read(out(), "v_dequantised").toFloats(), dim);
        double metadata = (mode == KvMode.TARPON ? 16.0 : 32.0) / dim;
        float[] bits = Tensors.read(out(), "bits_per_value").toFloats();
        assertEquals((kBits + vBits) / 2.0 + metadata, bits[0], 1e-6);
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, TARPON, 64, 3, 0, 0",
        "cpu, TARPON, 128, 8, 4, 16",
        "cpu, ROTATEKV, 64, 5, 4, 0",
        "cpu, TARPON, 64, 21, 0, 0",
        "sim, TARPON, 64, 3, 4, 0",
        "sim, ROTATEKV, 64, 2, 0, 0",
        "cuda, TARPON, 128, 3, 4, 0",
        "cuda, ROTATEKV, 128, 2, 0, 0"
    })
    void test_attend_is_attention_over_the_round_trip(
            String device, KvMode mode, int dim, int queries, int sinks, int window)
            throws IOException {
        KvDevices.open(device).close();
        Data data = Data.random(dim);
        int qHeads = 3 * HEADS;
        var random = new Random(7);
        double[][] q = new double[queries][qHeads * dim];
        for (double[] row : q) {
            Arrays.setAll(row, i -> (float) (0.3 * random.nextGaussian()));
        }
        List<HostTensor> tensors = data.tensors();
        tensors.add(heads("q", q, dim));
        Object[] flags = {
            "--device",
            device,
            "--mode",
            mode.name().toLowerCase(Locale.ROOT),
            "--sinks",
            sinks,
            "--window",
            window
        };
        run("kv-attend", tensors, flags).succeeds();
        HostTensor o = Tensors.read(out(), "o");
        assertArrayEquals(new long[] {queries, qHeads, dim}, o.shape());
        float[] outputs = o.toFloats();
        run("kv-roundtrip", tensors, flags).succeeds();
        double[][] keys = rows(Tensors.read(out(), "k_dequantised"));
        double[][] values = rows(Tensors.read(out(), "v_dequantised"));
        var scheme = new KvScheme(mode, HEADS, dim, 10000, false);
        for (int i = 0; i < queries; i++) {
            for (int head = 0; head < qHeads; head++) {
                double[] query = Arrays.copyOfRange(q[i], head * dim, (head + 1) * dim);
                double[] expected =
                        scheme.attend(query, TOKENS - queries + i, head / 3, keys, values);
                for (int c = 0; c < dim; c++) {
                    double actual = outputs[(i * qHeads + head) * dim + c];
                    String place = "o[%d, %d, %d]".formatted(i, head, c);
                    assertEquals(expected[c], actual, 1e-3, place);
                }
            }
        }
    }

    private static double[][] rows(HostTensor tensor) {
        float[] values = tensor.toFloats();
        int width = Math.toIntExact(tensor.elements() / tensor.dimension(0));
        double[][] rows = new double[Math.toIntExact(tensor.dimension(0))][width];
        for (int i = 0; i < values.length; i++) {
            rows[i / width][i % width] = values[i];
        }
        return rows;
    }

    /** The faithful mode against the tensors of RotateKV's own simulation. */
    @ParameterizedTest
    @CsvSource({"2, rotatekv_b2_clip0.8_g128", "4, rotatekv_b4_clip1.0_g128"})
    void test_round_trip_equals_rotatekvs_simulation(int bits, String name) throws IOException {
        Path inputs = TestPaths.golden("rotatekv_inputs.safetensors");
        Path golden = TestPaths.golden(name + ".safetensors");
        double[][] k = tokensFirst(Tensors.read(inputs, "K_pre_rope"));
        double[][] v = tokensFirst(Tensors.read(inputs, "V"));
        List<HostTensor> tensors =
                List.of(
                        heads("k", k, 128),
                        heads("v", v, 128),
                        Tensors.read(inputs, "reorder_idx").renamed("k_order"));
        run("kv-roundtrip", tensors, "--mode", "rotatekv", "--k-bits", bits, "--v-bits", bits)
                .succeeds();
        double[][] keys = tokensFirst(Tensors.read(golden, "K.recovered_pre_rope"));
        double[][] values = tokensFirst(Tensors.read(golden, "V.recovered"));
        var scheme = new KvScheme(KvMode.ROTATEKV, 8, 128, 10000, false);
        double[][] actualK = rows(Tensors.read(out(), "k_dequantised"));
        double[][] actualV = rows(Tensors.read(out(), "v_dequantised"));
        int[] quantised = Tensors.read(inputs, "quant_tokens").toInts();
        for (int t : quantised) {
            // Scales are binary16 in the cache, and a tie may go to the next code.
            assertNear("keys of token " + t, scheme.rope(keys[t], t), actualK[t]);
            assertNear("values of token " + t, values[t], actualV[t]);
        }
    }

    private static void assertNear(String what, double[] expected, double[] actual) {
        double error = 0;
        double square = 0;
        for (int c = 0; c < expected.length; c++) {
            error += (actual[c] - expected[c]) * (actual[c] - expected[c]);
            square += expected[c] * expected[c];
        }
        double relative = Math.sqrt(error / square);
        assertTrue(relative < 1e-3, "%s: relative error %g".formatted(what, relative));
    }

    /** [1, heads, tokens, dim] as [tokens][heads * dim]. */
    private static double[][] tokensFirst(HostTensor tensor) {
        float[] values = tensor.toFloats();
        int heads = Math.toIntExact(tensor.dimension(1));
        int tokens = Math.toIntExact(tensor.dimension(2));
        int dim = Math.toIntExact(tensor.dimension(3));
        double[][] rows = new double[tokens][heads * dim];
        for (int i = 0; i < values.length; i++) {
            rows[i / dim % tokens][i / dim / tokens * dim + i % dim] = values[i];
        }
        return rows;
    }

    @Test
    void test_calibration_keys_give_mean_and_order() throws IOException {
        Data data = Data.random(64);
        List<HostTensor> tensors =
                List.of(
                        heads("k", data.k(), 64),
                        heads("v", data.v(), 64),
                        heads("calibration", Data.random(64).k(), 64));
        double before = 0;
        for (KvMode mode : KvMode.values()) {
            String name = mode.name().toLowerCase(Locale.ROOT);
            run("kv-roundtrip", tensors.subList(0, 2), "--mode", name).succeeds();
            double plain = keyError(data);
            run("kv-roundtrip", tensors, "--mode", name).succeeds();
            double calibrated = keyError(data);
            assertTrue(calibrated < plain, mode + ": " + calibrated + " after " + plain);
            assertTrue(calibrated != before, "both modes use it in their own way");
            before = calibrated;
        }
    }

    private double keyError(Data data) throws IOException {
        double[][] keys = rows(Tensors.read(out(), "k_dequantised"));
        var scheme = new KvScheme(KvMode.TARPON, HEADS, data.dim(), 10000, false);
        double error = 0;
        for (int t = 0; t < TOKENS; t++) {
            double[] exact = scheme.rope(data.k()[t], t);
            for (int c = 0; c < exact.length; c++) {
                error += (keys[t][c] - exact[c]) * (keys[t][c] - exact[c]);
            }
        }
        return error;
    }

    @Test
    void test_sinks_and_window_count_in_the_bits() throws IOException {
        Data data = Data.random(64);
        run("kv-roundtrip", data.tensors(), "--sinks", 4, "--window", 10).succeeds();
        double pages = 2 + 16.0 / 64;
        double expected = (pages * (TOKENS - 14) + 16 * 14) / TOKENS;
        assertEquals(expected, Tensors.read(out(), "bits_per_value").toFloats()[0], 1e-6);
        double[][] values = rows(Tensors.read(out(), "v_dequantised"));
        for (int t : new int[] {0, 3, 60, 69}) {
            assertArrayEquals(data.v()[t], values[t], 5e-3, "token " + t + " has 16 bits");
        }
    }

    @ParameterizedTest
    @CsvSource({"cpu, tarpon", "cpu, rotatekv", "sim, tarpon", "sim, rotatekv"})
    void test_sinks_stand_where_they_are_said_to(String device, String mode) throws IOException {
        KvDevices.open(device).close();
        Data data = Data.random(64);
        Object[] flags = {
            "--sink-positions", "2,40,66", "--window", 10, "--mode", mode, "--device", device
        };
        run("kv-roundtrip", data.tensors(), flags).succeeds();
        double[][] values = rows(Tensors.read(out(), "v_dequantised"));
        List<Integer> kept = new ArrayList<>();
        for (int t = 0; t < TOKENS; t++) {
            double worst = 0;
            for (int c = 0; c < HEADS * 64; c++) {
                worst = Math.max(worst, Math.abs(values[t][c] - data.v()[t][c]));
            }
            // 2 bits leave errors of about 0.3 on values of a standard normal.
            if (worst < 5e-3) {
                kept.add(t);
            }
        }
        assertEquals(List.of(2, 40, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69), kept);
        double pages = 2 + (mode.equals("tarpon") ? 16.0 : 32.0) / 64;
        double expected = (pages * (TOKENS - 12) + 16 * 12) / TOKENS;
        assertEquals(expected, Tensors.read(out(), "bits_per_value").toFloats()[0], 1e-6);
    }

    @Test
    void test_bad_input_is_named() throws IOException {
        Data data = Data.random(64);
        List<HostTensor> all = data.tensors();
        HostTensor k = all.get(0);
        HostTensor v = all.get(1);
        int bad = ExitCode.BAD_INPUT;
        run("kv-roundtrip", List.of(k), "--mode", "tarpon").fails(bad, "'v'", "is missing");
        run("kv-roundtrip", List.of(k, heads("v", data.v(), 32))).fails(bad, "'v'", "[70, 8, 32]");
        HostTensor flat = Tensors.of("k", ElementType.F32, new float[64], 64);
        run("kv-roundtrip", List.of(flat, v)).fails(bad, "'k'", "[64]", "head_dim");
        HostTensor odd = heads("k", data.k(), 32);
        run("kv-roundtrip", List.of(odd, heads("v", data.v(), 32)))
                .fails(bad, "'k'", "head_dim is 32");
        HostTensor twice = Tensors.of("k_order", ElementType.I32, new float[256], 256);
        run("kv-roundtrip", List.of(k, v, twice), "--mode", "rotatekv").fails(bad, "k_order");
        HostTensor q = Tensors.of("q", ElementType.F32, new float[71 * 256], 71, 4, 64);
        run("kv-attend", List.of(k, v, q)).fails(bad, "'q'", "71 queries", "70 tokens");
        HostTensor halves = Tensors.of("q", ElementType.F16, new float[256], 1, 4, 64);
        run("kv-attend", List.of(k, v, halves)).fails(bad, "'q'", "F16", "F32");
        HostTensor five = Tensors.of("q", ElementType.F32, new float[5 * 64], 1, 5, 64);
        run("kv-attend", List.of(k, v, five)).fails(bad, "q_heads is 5");
        int usage = ExitCode.USAGE;
        run("kv-roundtrip", all, "--k-bits", 5).fails(usage, "--k-bits 5");
        run("kv-roundtrip", all, "--sinks", 300).fails(usage, "--sinks 300");
        run("kv-roundtrip", all, "--sink-positions", "3,3").fails(usage, "3 behind 3");
        run("kv-roundtrip", all, "--sink-positions", "3", "--sinks", 2).fails(usage, "--sinks 2");
        run("kv-roundtrip", all, "--sink-positions", "5,70").fails(bad, "'k'", "position 70");
        run("kv-roundtrip", all, "--mode", "kivi").fails(usage, "'kivi'", "rotatekv");
        run("kv-roundtrip", all, "--rope-layout", "both").fails(usage, "'both'", "interleaved");
        assertTrue(Files.notExists(out()), "no output is left by a failure");
    }
}
