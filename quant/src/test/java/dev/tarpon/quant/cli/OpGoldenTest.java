package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Path;

/** The operations against tensors that the original MARLIN packer made. */
class OpGoldenTest {
    /**
     * Rounding y to fp16 moves each element by at most 2^-11 of it, and half of that on average;
     * the rest is for sums in fp32 where the reference has fp64.
     */
    private static final double MEAN_RELATIVE_ERROR = 5e-4;

    @TempDir Path folder;

    @ParameterizedTest
    @CsvSource({"128, 256, -1", "128, 256, 128", "256, 512, -1", "256, 512, 128"})
    void test_linear_pack_of_codes_is_bit_equal(int k, int n, int group) throws IOException {
        Path golden = golden(k, n, group);
        Path in =
                Tensors.write(
                        folder.resolve("in.safetensors"),
                        Tensors.read(golden, "codes"),
                        Tensors.read(golden, "s_fp16").renamed("scales"));
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear-pack", "--in", in, "--out", out, "--group", group).succeeds();
        assertSame(golden, "B", out, "qweight");
        assertSame(golden, "s_packed", out, "scales_packed");
        assertSame(golden, "codes", out, "codes");
        assertSame(golden, "s_fp16", out, "scales");
    }

    @ParameterizedTest
    @CsvSource({"128, 256, -1", "128, 256, 128", "256, 512, -1", "256, 512, 128"})
    void test_linear_pack_of_a_weight_is_bit_equal(int k, int n, int group) throws IOException {
        Path golden = golden(k, n, group);
        Path in = Tensors.write(folder.resolve("in.safetensors"), torchWeight(golden, k, n));
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear-pack", "--in", in, "--out", out, "--bits", 4, "--group", group)
                .succeeds();
        assertSame(golden, "codes", out, "codes");
        assertSame(golden, "s_fp16", out, "scales");
        assertSame(golden, "B", out, "qweight");
        assertSame(golden, "s_packed", out, "scales_packed");
    }

    @ParameterizedTest
    @CsvSource({"128, 256, -1", "128, 256, 128", "256, 512, -1", "256, 512, 128"})
    void test_linear_unpack_inverts(int k, int n, int group) throws IOException {
        Path golden = golden(k, n, group);
        Path in = Tensors.write(folder.resolve("in.safetensors"), packed(golden));
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear-unpack", "--in", in, "--out", out, "--group", group).succeeds();
        assertSame(golden, "codes", out, "codes");
        assertSame(golden, "s_fp16", out, "scales");
    }

    @ParameterizedTest
    @CsvSource({"128, 256, -1", "128, 256, 128", "256, 512, -1", "256, 512, 128"})
    void test_linear_matches_the_fp64_product(int k, int n, int group) throws IOException {
        Path golden = golden(k, n, group);
        HostTensor x = Tensors.read(golden, "A_fp16").renamed("x");
        HostTensor[] packed = packed(golden);
        Path[] inputs = {
            Tensors.write(folder.resolve("weight.safetensors"), x, torchWeight(golden, k, n)),
            Tensors.write(
                    folder.resolve("codes.safetensors"),
                    x,
                    Tensors.read(golden, "codes"),
                    Tensors.read(golden, "s_fp16").renamed("scales")),
            Tensors.write(folder.resolve("qweight.safetensors"), x, packed[0], packed[1])
        };
        float[] expected = Tensors.read(golden, "C_fp32").toFloats();
        byte[] first = null;
        for (Path in : inputs) {
            Path out = folder.resolve("out.safetensors");
            CliRun.of("op", "linear", "--device", "cpu", "--in", in, "--out", out, "--group", group)
                    .succeeds();
            HostTensor y = Tensors.read(out, "y");
            assertArrayEquals(new long[] {5, n}, y.shape());
            double error = Reference.meanRelativeError(y.toFloats(), expected);
            assertTrue(error <= MEAN_RELATIVE_ERROR, in + ": " + error);
            if (first == null) {
                first = Tensors.bytes(y);
            }
            assertArrayEquals(first, Tensors.bytes(y), "all forms are the same weight: " + in);
        }
    }

    private static Path golden(int k, int n, int group) {
        return TestPaths.golden("marlin_k%d_n%d_g%d.safetensors".formatted(k, n, group));
    }

    private static HostTensor[] packed(Path golden) throws IOException {
        return new HostTensor[] {
            Tensors.read(golden, "B").renamed("qweight"),
            Tensors.read(golden, "s_packed").renamed("scales_packed")
        };
    }

    /** The golden weight is [k, n]; linear-pack takes [n, k]. */
    private static HostTensor torchWeight(Path golden, int k, int n) throws IOException {
        float[] weight = Reference.transpose(Tensors.read(golden, "w_fp16").toFloats(), k, n);
        return Tensors.of("weight", ElementType.F16, weight, n, k);
    }

    private static void assertSame(Path golden, String expected, Path out, String actual)
            throws IOException {
        HostTensor want = Tensors.read(golden, expected);
        HostTensor got = Tensors.read(out, actual);
        assertArrayEquals(want.shape(), got.shape(), actual);
        assertArrayEquals(Tensors.bytes(want), Tensors.bytes(got), actual);
    }
}
