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

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Path;

/** The operations on sizes that are no multiple of anything, in all types, on cpu and sim. */
class OpTest {
    @TempDir Path folder;

    @ParameterizedTest
    @CsvSource({
        "1, 1, 128",
        "1, 1, -1",
        "200, 100, 128",
        "65, 129, 128",
        "65, 129, -1",
        "7, 300, 128",
        "64, 16, -1",
        "63, 17, -1"
    })
    void test_odd_sizes_round_trip(int n, int k, int group) throws IOException {
        Path in =
                Tensors.write(
                        folder.resolve("in.safetensors"),
                        Tensors.of("weight", ElementType.F32, Tensors.random(n, n * k), n, k));
        Path packed = folder.resolve("packed.safetensors");
        CliRun.of("op", "linear-pack", "--in", in, "--out", packed, "--group", group).succeeds();
        long paddedK = Math.ceilDiv(k, 16) * 16L;
        long paddedN = Math.ceilDiv(n, 64) * 64L;
        assertArrayEquals(
                new long[] {paddedK / 16, 2 * paddedN}, Tensors.read(packed, "qweight").shape());
        try (SafetensorsFile file = SafetensorsFile.open(packed)) {
            assertEquals(Integer.toString(n), file.metadata().get("n"));
            assertEquals(Integer.toString(k), file.metadata().get("k"));
            assertEquals(Integer.toString(group), file.metadata().get("group"));
        }

        // The true sizes come from the metadata, or else from flags.
        Path unpacked = folder.resolve("unpacked.safetensors");
        CliRun.of("op", "linear-unpack", "--in", packed, "--out", unpacked).succeeds();
        assertSame(packed, unpacked);
        Path bare =
                Tensors.write(
                        folder.resolve("bare.safetensors"),
                        Tensors.read(packed, "qweight"),
                        Tensors.read(packed, "scales_packed"));
        CliRun.of(
                        "op",
                        "linear-unpack",
                        "--in",
                        bare,
                        "--out",
                        unpacked,
                        "--group",
                        group,
                        "--k",
                        k,
                        "--n",
                        n)
                .succeeds();
        assertSame(packed, unpacked);
    }

    /** The tolerances are those of the acceptance: rounding of y, plus fp32 sums. */
    @ParameterizedTest
    @CsvSource({
        "F32, 1, 96, 200, 128, 1e-6",
        "F32, 17, 300, 70, -1, 1e-6",
        "F16, 3, 200, 65, 128, 5e-4",
        "F16, 33, 129, 64, -1, 5e-4",
        "BF16, 2, 384, 96, 128, 4e-3"
    })
    void test_linear_matches_an_fp64_product(
            ElementType type, int m, int k, int n, int group, double bound) throws IOException {
        HostTensor x = Tensors.of("x", type, Tensors.random(7, m * k), m, k);
        float[] y = linear("cpu", x, n, group, bound);
        assertEquals(m * n, y.length);
    }

    @Test
    void test_linear_of_no_rows_is_empty() throws IOException {
        HostTensor x = Tensors.of("x", ElementType.F32, new float[0], 0, 128);
        Path in =
                Tensors.write(
                        folder.resolve("in.safetensors"),
                        x,
                        Tensors.of(
                                "weight", ElementType.F32, Tensors.random(1, 64 * 128), 64, 128));
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear", "--in", in, "--out", out).succeeds();
        assertArrayEquals(new long[] {0, 64}, Tensors.read(out, "y").shape());
    }

    @ParameterizedTest
    @CsvSource({"F16, 5, 256, 192, 128, 5e-4", "BF16, 3, 100, 65, -1, 4e-3"})
    void test_linear_runs_on_the_simulator(
            ElementType type, int m, int k, int n, int group, double bound) throws IOException {
        String reason = Tarpon.unavailableReason(DeviceKind.SIM).orElse("");
        assumeTrue(reason.isEmpty(), () -> "device sim: " + reason);
        linear("sim", Tensors.of("x", type, Tensors.random(7, m * k), m, k), n, group, bound);
    }

    private float[] linear(String device, HostTensor x, int n, int group, double bound)
            throws IOException {
        int k = (int) x.dimension(1);
        Path weight =
                Tensors.write(
                        folder.resolve("weight.safetensors"),
                        Tensors.of("weight", ElementType.F32, Tensors.random(3, n * k), n, k));
        Path packed = folder.resolve("packed.safetensors");
        CliRun.of("op", "linear-pack", "--in", weight, "--out", packed, "--group", group)
                .succeeds();
        HostTensor codes = Tensors.read(packed, "codes");
        HostTensor scales = Tensors.read(packed, "scales");
        Path in = Tensors.write(folder.resolve("in.safetensors"), x, codes, scales);
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear", "--device", device, "--in", in, "--out", out, "--group", group)
                .succeeds();
        HostTensor y = Tensors.read(out, "y");
        assertEquals(x.type(), y.type());
        assertArrayEquals(new long[] {x.dimension(0), n}, y.shape());
        float[] actual = y.toFloats();
        float[] expected = Reference.product(x, codes, scales, group);
        double error = Reference.meanRelativeError(actual, expected);
        assertTrue(error <= bound, "mean relative error " + error);
        return actual;
    }

    private static void assertSame(Path packed, Path unpacked) throws IOException {
        for (String name : new String[] {"codes", "scales"}) {
            HostTensor want = Tensors.read(packed, name);
            HostTensor got = Tensors.read(unpacked, name);
            assertArrayEquals(want.shape(), got.shape(), name);
            assertArrayEquals(Tensors.bytes(want), Tensors.bytes(got), name);
        }
    }
}
