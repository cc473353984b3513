package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Against tensors of the original MARLIN packer, in shared/golden beside the project; skipped where
 * that folder is not.
 */
class MarlinGoldenTest {
    private static final int ROWS = 5;

    private static GoldenFile golden(int in, int out, int groupSize) throws IOException {
        Path folder = TestPaths.root().resolve("../shared/golden").normalize();
        String name = "marlin_k%d_n%d_g%d.safetensors".formatted(in, out, groupSize);
        Path file = folder.resolve(name);
        assumeTrue(Files.isRegularFile(file), () -> "golden file " + name + " is not there");
        return new GoldenFile(file);
    }

    /** binary16 [in, out] to [out, in]. */
    private static MemorySegment transpose(MemorySegment weight, int in, int out) {
        MemorySegment transposed = MemorySegment.ofArray(new short[in * out]);
        for (int k = 0; k < in; k++) {
            for (int n = 0; n < out; n++) {
                short bits = weight.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * (k * out + n));
                transposed.setAtIndex(ValueLayout.JAVA_SHORT, n * in + k, bits);
            }
        }
        return transposed;
    }

    private static void assertSameBytes(String what, MemorySegment expected, MemorySegment actual) {
        assertEquals(-1, expected.mismatch(actual), "first differing byte of " + what);
    }

    @ParameterizedTest
    @CsvSource({"128,256,-1", "128,256,128", "256,512,-1", "256,512,128"})
    void quantisingAndPackingAreBitIdentical(int in, int out, int groupSize) throws IOException {
        GoldenFile golden = golden(in, out, groupSize);
        QuantizedWeights weights =
                QuantizedWeights.quantize(
                        transpose(golden.tensor("w_fp16"), in, out), DType.F16, out, in, groupSize);
        assertSameBytes("codes", golden.tensor("codes"), weights.codes());
        assertSameBytes("scales", golden.tensor("s_fp16"), weights.scales());
        MarlinWeights marlin = weights.toMarlin();
        assertSameBytes("qweight", golden.tensor("B"), marlin.qweight());
        assertSameBytes("packed scales", golden.tensor("s_packed"), marlin.scales());
    }

    @ParameterizedTest
    @CsvSource({"128,256,-1", "128,256,128", "256,512,-1", "256,512,128"})
    void unpackingInvertsThePacker(int in, int out, int groupSize) throws IOException {
        GoldenFile golden = golden(in, out, groupSize);
        QuantizedWeights weights =
                QuantizedWeights.fromMarlin(
                        golden.tensor("B"), golden.tensor("s_packed"), out, in, groupSize);
        assertSameBytes("codes", golden.tensor("codes"), weights.codes());
        assertSameBytes("scales", golden.tensor("s_fp16"), weights.scales());
    }

    /** The mean relative error against the original's binary64 product, with the bar. */
    @ParameterizedTest
    @CsvSource({
        "cpu,128,256,-1", "cpu,128,256,128", "cpu,256,512,-1", "cpu,256,512,128",
        "sim,128,256,-1", "sim,128,256,128", "sim,256,512,-1", "sim,256,512,128",
        "cuda,128,256,-1", "cuda,128,256,128", "cuda,256,512,-1", "cuda,256,512,128"
    })
    void linearAgrees(String spec, int in, int out, int groupSize) throws IOException {
        GoldenFile golden = golden(in, out, groupSize);
        QuantizedWeights weights =
                QuantizedWeights.fromMarlin(
                        golden.tensor("B"), golden.tensor("s_packed"), out, in, groupSize);
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, weights, DType.F16);
                Tensor x = device.allocate(DType.F16, ROWS, in).copyFrom(golden.tensor("A_fp16"));
                Tensor y = device.allocate(DType.F16, ROWS, out)) {
            linear.forward(x, y, stream);
            float[] actual = y.toFloatArray();
            MemorySegment expected = golden.tensor("C_fp32");
            double errors = 0;
            double magnitudes = 0;
            for (int i = 0; i < actual.length; i++) {
                float value = expected.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                errors += Math.abs(actual[i] - value);
                magnitudes += Math.abs(value);
            }
            double mean = errors / magnitudes;
            assertTrue(mean <= 5e-4, () -> "mean relative error " + mean);
        }
    }
}
