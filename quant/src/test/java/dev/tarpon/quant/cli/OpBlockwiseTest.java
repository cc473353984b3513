package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** hadamard, blockwise-quantize and blockwise-dequantize, on cpu and sim, and on golden files. */
class OpBlockwiseTest {
    @TempDir Path folder;

    private Path in(HostTensor... tensors) throws IOException {
        return Tensors.write(folder.resolve("in.safetensors"), tensors);
    }

    private Path out() {
        return folder.resolve("out.safetensors");
    }

    private static void assumeSimulator(String device) {
        String reason = Tarpon.unavailableReason(DeviceKind.SIM).orElse("");
        assumeTrue(!device.equals("sim") || reason.isEmpty(), () -> "device sim: " + reason);
    }

    @ParameterizedTest
    @CsvSource({"cpu, F32", "cpu, F16", "cpu, BF16", "sim, F32", "sim, BF16"})
    void test_hadamard_is_sylvesters_matrix(String device, ElementType type) throws IOException {
        assumeSimulator(device);
        int n = 64;
        HostTensor x = Tensors.of("x", type, Tensors.random(1, 3 * n), 3, n);
        CliRun.of("op", "hadamard", "--device", device, "--in", in(x), "--out", out()).succeeds();
        HostTensor y = Tensors.read(out(), "y");
        assertEquals(type, y.type());
        assertArrayEquals(new long[] {3, n}, y.shape());
        float[] given = x.toFloats();
        float[] expected = new float[given.length];
        for (int i = 0; i < expected.length; i++) {
            double sum = 0;
            for (int j = 0; j < n; j++) {
                float element = given[i / n * n + j];
                sum += Integer.bitCount(i % n & j) % 2 == 0 ? element : -element;
            }
            expected[i] = (float) (sum / Math.sqrt(n));
        }
        // Half an ulp of the type on average is a quarter of its spacing; F32 sums six times.
        double bound = type == ElementType.F32 ? 1e-6 : type == ElementType.F16 ? 3e-4 : 3e-3;
        double error = Reference.meanRelativeError(y.toFloats(), expected);
        assertTrue(error <= bound, "mean relative error " + error);
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, signed, 256",
        "cpu, int8, 64",
        "cpu, e4m3, 4096",
        "cpu, dynamic4, 128",
        "cpu, nf4, 64",
        "sim, signed, 256",
        "sim, nf4, 64"
    })
    void test_blockwise_round_trip(String device, String map, int block) throws IOException {
        assumeSimulator(device);
        int n = 7 * 143; // no multiple of a block, and odd
        HostTensor x = Tensors.of("x", ElementType.BF16, Tensors.random(1, n), 7, 143);
        Path codes = folder.resolve("codes.safetensors");
        CliRun.of(
                        "op",
                        "blockwise-quantize",
                        "--device",
                        device,
                        "--in",
                        in(x),
                        "--out",
                        codes,
                        "--map",
                        map,
                        "--block",
                        block)
                .succeeds();
        boolean bytes = !map.equals("dynamic4") && !map.equals("nf4");
        assertArrayEquals(
                bytes ? new long[] {7, 143} : new long[] {(n + 1) / 2},
                Tensors.read(codes, "codes").shape());
        float[] values = Tensors.read(codes, "map").toFloats();
        assertEquals(bytes ? 256 : 16, values.length);
        float[] absmax = Tensors.read(codes, "absmax").toFloats();
        assertEquals((n + block - 1) / block, absmax.length);

        // Sizes, map and type come from the metadata.
        CliRun.of("op", "blockwise-dequantize", "--device", device, "--in", codes, "--out", out())
                .succeeds();
        HostTensor y = Tensors.read(out(), "y");
        assertEquals(ElementType.BF16, y.type());
        assertArrayEquals(bytes ? new long[] {7, 143} : new long[] {n}, y.shape());
        byte[] raw = Tensors.bytes(Tensors.read(codes, "codes"));
        float[] expected = new float[n];
        for (int i = 0; i < n; i++) {
            int code = bytes ? raw[i] & 255 : raw[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15;
            expected[i] = values[code] * absmax[i / block];
        }
        HostTensor rounded = Tensors.of("y", ElementType.BF16, expected, y.shape());
        assertArrayEquals(Tensors.bytes(rounded), Tensors.bytes(y));

        // And what is stored is near to what was given: half the widest gap of the map, at most.
        float[] given = x.toFloats();
        for (int i = 0; i < n; i++) {
            double bound = (bytes ? 0.04 : 0.2) * absmax[i / block];
            assertEquals(given[i], expected[i], bound, "x[%d]".formatted(i));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"normal", "lognormal", "zeros", "outlier", "mixedsign0"})
    void test_blockwise_codes_are_those_of_the_nearest_golden(String data) throws IOException {
        Path golden = TestPaths.golden("bnb_blockwise_" + data + ".safetensors");
        Path maps = TestPaths.golden("bnb_dynamic_maps.safetensors");
        for (String map : new String[] {"signed", "unsigned"}) {
            for (int n : new int[] {1, 255, 256, 257, 4096}) {
                String key = "n%d.%s.".formatted(n, map);
                HostTensor x = Tensors.read(golden, key + "x").renamed("x");
                CliRun.of("op", "blockwise-quantize", "--in", in(x), "--out", out(), "--map", map)
                        .succeeds();
                float[] expected = Tensors.read(golden, key + "nearest.absmax").toFloats();
                float[] absmax = Tensors.read(out(), "absmax").toFloats();
                assertEquals(expected.length, absmax.length, key);
                for (int i = 0; i < absmax.length; i++) {
                    // 1e-38 is its stand-in for a block of zeros.
                    assertEquals(expected[i] == 1e-38f ? 0 : expected[i], absmax[i], key + i);
                }
                float[] expectedMap = Tensors.read(maps, "dynamic_" + map).toFloats();
                float[] actualMap = Tensors.read(out(), "map").toFloats();
                for (int i = 0; i < 256; i++) {
                    assertEquals(expectedMap[i] + 0f, actualMap[i] + 0f, key + "map " + i);
                }
                HostTensor codes = Tensors.read(golden, key + "nearest.codes");
                assertArrayEquals(
                        Tensors.bytes(codes), Tensors.bytes(Tensors.read(out(), "codes")), key);
            }
        }
    }

    @Test
    void test_bad_input_is_named() throws IOException {
        HostTensor x = Tensors.of("x", ElementType.F32, Tensors.random(1, 72), 2, 36);
        HostTensor bytes = Tensors.of("x", ElementType.U8, new float[72], 2, 36);
        HostTensor none = Tensors.of("x", ElementType.F32, new float[0], 0, 36);
        HostTensor flat = Tensors.of("x", ElementType.F32, new float[64], 64);
        bad("hadamard", new HostTensor[] {x}, "'x'", "is refused", "36");
        bad("hadamard", new HostTensor[] {flat}, "'x'", "[64]", "matrix");
        bad("hadamard", new HostTensor[] {bytes}, "'x'", "U8", "F32 or F16 or BF16");
        bad("blockwise-quantize", new HostTensor[] {none}, "'x'", "[0, 36]");
        bad("blockwise-quantize", new HostTensor[] {x.renamed("y")}, "'x'", "is missing");

        HostTensor codes = Tensors.of("codes", ElementType.U8, new float[300], 300);
        HostTensor one = Tensors.of("absmax", ElementType.F32, new float[1], 1);
        HostTensor two = Tensors.of("absmax", ElementType.F32, new float[2], 2);
        HostTensor map = Tensors.of("map", ElementType.F32, new float[256], 256);
        String op = "blockwise-dequantize";
        bad(op, new HostTensor[] {codes}, "'absmax'", "is missing");
        bad(op, new HostTensor[] {codes, one}, "'absmax'", "[1]", "[2]", "n 300, block 256");
        bad(op, new HostTensor[] {codes, two, map}, "'map'", "code 0", "signed");
        run(op, new HostTensor[] {codes, two}, "--n", 299)
                .fails(ExitCode.BAD_INPUT, "'codes'", "300 bytes", "n 299");
        run(op, new HostTensor[] {codes, two}, "--block", 100).fails(ExitCode.USAGE, "--block 100");
        run(op, new HostTensor[] {codes, two}, "--map", "cubic")
                .fails(ExitCode.USAGE, "cubic", "unsigned");
        run(op, new HostTensor[] {codes, two}, "--dtype", "u8").fails(ExitCode.USAGE, "u8", "bf16");
        assertTrue(Files.notExists(out()), "no output is left by a failure");
    }

    private void bad(String op, HostTensor[] tensors, String... parts) throws IOException {
        run(op, tensors).fails(ExitCode.BAD_INPUT, parts);
    }

    private CliRun run(String op, HostTensor[] tensors, Object... flags) throws IOException {
        Object[] arguments = new Object[6 + flags.length];
        System.arraycopy(
                new Object[] {"op", op, "--in", in(tensors), "--out", out()}, 0, arguments, 0, 6);
        System.arraycopy(flags, 0, arguments, 6, flags.length);
        return CliRun.of(arguments);
    }
}
