package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

/**
 * Weights from checkpoints: against tensors of the original tools, and blocks of GGUF by formula.
 */
class WeightImportTest {
    private static final WeightFormat INTEGER =
            new WeightFormat(WeightType.INT4, ZeroType.INTEGER, DType.F16, 128);

    private static GoldenFile golden(String name) throws IOException {
        Path folder = TestPaths.root().resolve("../shared/golden").normalize();
        Path file = folder.resolve(name + ".safetensors");
        assumeTrue(Files.isRegularFile(file), () -> "golden file " + name + " is not there");
        return new GoldenFile(file);
    }

    private static WeightFormat format(ZeroType zeroType, int group) {
        return new WeightFormat(WeightType.INT4, zeroType, DType.F16, group);
    }

    /** Codes and scales as they are, and weights equal to the tool's once rounded to F16. */
    private static void check(GoldenFile golden, QuantizedWeights weights) {
        assertEquals(-1, golden.tensor("codes").mismatch(weights.codes()), "codes");
        assertEquals(-1, golden.tensor("scales").mismatch(weights.scales()), "scales");
        weights.zeros()
                .ifPresent(zeros -> assertEquals(-1, golden.tensor("zeros").mismatch(zeros)));
        float[] w = weights.dequantize();
        MemorySegment expected = golden.tensor("w_dequant_fp16");
        for (int i = 0; i < w.length; i++) {
            short want = expected.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i);
            assertEquals(want, HalfFloats.toFloat16(w[i]), "weight " + i);
        }
    }

    @ParameterizedTest
    @CsvSource({"128,256,-1", "128,256,128", "256,512,-1", "256,512,128"})
    void gptq(int in, int out, int group) throws IOException {
        for (String kind : new String[] {"sym", "asym", "actorder"}) {
            GoldenFile golden = golden("gptq_%s_k%d_n%d_g%d".formatted(kind, in, out, group));
            ZeroType zeroType = kind.equals("sym") ? ZeroType.SYMMETRIC : ZeroType.INTEGER;
            for (boolean v2 : new boolean[] {false, true}) {
                check(
                        golden,
                        QuantizedWeights.fromGptq(
                                golden.tensor("qweight"),
                                golden.tensor(v2 ? "qzeros_v2" : "qzeros"),
                                golden.tensor("scales"),
                                golden.tensor("g_idx"),
                                v2,
                                out,
                                in,
                                format(zeroType, group)));
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"128,256,-1", "128,256,128", "256,512,-1", "256,512,128"})
    void awq(int in, int out, int group) throws IOException {
        GoldenFile golden = golden("awq_gemm_k%d_n%d_g%d".formatted(in, out, group));
        check(
                golden,
                QuantizedWeights.fromAwq(
                        golden.tensor("qweight"),
                        golden.tensor("qzeros"),
                        golden.tensor("scales"),
                        out,
                        in,
                        format(ZeroType.INTEGER, group)));
    }

    /** One block for each output, of random bytes with a small d; read by ggml's formulas. */
    @ParameterizedTest
    @EnumSource(GgufType.class)
    void gguf(GgufType type) {
        int out = 5;
        int in = type.blockInputs();
        byte[] blocks = new byte[Math.toIntExact(type.bytes(out, in))];
        new Random(7).nextBytes(blocks);
        for (int n = 0; n < out; n++) { // d and m, or d and dmin
            short d = HalfFloats.toFloat16(0.01f * (n + 1));
            MemorySegment block = MemorySegment.ofArray(blocks).asSlice(n * type.blockBytes());
            block.set(ValueLayout.JAVA_SHORT_UNALIGNED, 0, d);
            if (type.format().zeroType() == ZeroType.FLOAT) {
                block.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2, HalfFloats.toFloat16(0.03f));
            }
        }
        QuantizedWeights weights =
                QuantizedWeights.fromGguf(MemorySegment.ofArray(blocks), type, out, in);
        assertEquals(type.format(), weights.format());
        float[] w = weights.dequantize();
        float m = HalfFloats.fromFloat16(HalfFloats.toFloat16(0.03f));
        for (int n = 0; n < out; n++) {
            float d = HalfFloats.fromFloat16(HalfFloats.toFloat16(0.01f * (n + 1)));
            int base = n * type.blockBytes();
            for (int k = 0; k < in; k++) {
                int nibble = k % 32 < 16 ? 0 : 4;
                float want =
                        switch (type) {
                            case Q4_0 -> ((blocks[base + 2 + k % 16] >> nibble & 15) - 8) * d;
                            case Q4_1 -> (blocks[base + 4 + k % 16] >> nibble & 15) * d + m;
                            case Q8_0 -> blocks[base + 2 + k] * d;
                            case Q4_K -> q4k(blocks, base, k, d, m);
                        };
                assertEquals(want, w[k * out + n], "[" + k + ", " + n + "]");
            }
        }
    }

    private static float q4k(byte[] blocks, int base, int k, float d, float dmin) {
        int group = k / 32;
        int[] s = new int[12];
        for (int i = 0; i < 12; i++) {
            s[i] = blocks[base + 4 + i] & 255;
        }
        int scale = group < 4 ? s[group] & 63 : s[group + 4] & 15 | s[group - 4] >> 6 << 4;
        int minimum = group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | s[group] >> 6 << 4;
        int code = blocks[base + 16 + k / 64 * 32 + k % 32] >> (group % 2 * 4) & 15;
        return d * scale * code - dmin * minimum;
    }

    @Test
    void contentsThatNoWeightMayHaveAreNamed() {
        byte[] codes = new byte[128 * 8];
        short[] scales = new short[8];
        byte[] zeros = new byte[8];
        zeros[3] = 16;
        assertMessage(
                () ->
                        QuantizedWeights.of(
                                MemorySegment.ofArray(codes),
                                MemorySegment.ofArray(scales),
                                MemorySegment.ofArray(zeros),
                                null,
                                8,
                                128,
                                INTEGER),
                "zeros[0, 3] is 16");
        assertMessage(
                () ->
                        QuantizedWeights.of(
                                MemorySegment.ofArray(codes),
                                MemorySegment.ofArray(scales),
                                null,
                                null,
                                8,
                                128,
                                INTEGER),
                "zeros is NULL");
        zeros[3] = 0;
        assertMessage(
                () ->
                        QuantizedWeights.of(
                                MemorySegment.ofArray(codes),
                                MemorySegment.ofArray(scales),
                                MemorySegment.ofArray(zeros),
                                MemorySegment.ofArray(new int[127]),
                                8,
                                128,
                                INTEGER),
                "g_idx");
        codes[0] = 0x7f;
        assertMessage(
                () ->
                        QuantizedWeights.of(
                                MemorySegment.ofArray(codes),
                                MemorySegment.ofArray(scales),
                                null,
                                null,
                                8,
                                128,
                                new WeightFormat(
                                        WeightType.FP8_E4M3, ZeroType.SYMMETRIC, DType.F16, 128)),
                "NaN");
        assertMessage(
                () ->
                        QuantizedWeights.fromGguf(
                                MemorySegment.ofArray(new byte[143]), GgufType.Q4_K, 1, 256),
                "143");
        assertMessage(() -> new WeightFormat(WeightType.INT4, ZeroType.FLOAT, DType.U8, 32), "U8");
        assertMessage(
                () -> new WeightFormat(WeightType.FP8_E4M3, ZeroType.FLOAT, DType.F16, 32),
                "FLOAT");
    }

    private static void assertMessage(Runnable call, String part) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        assertTrue(message.contains(part), message);
        assertFalse(message.contains("weights->"), message);
    }

    @Test
    void onlyMarlinsFormatGoesToMarlin() {
        QuantizedWeights weights =
                QuantizedWeights.quantize(
                        MemorySegment.ofArray(new float[8 * 128]), DType.F32, 8, 128, INTEGER);
        String message = assertThrows(IllegalStateException.class, weights::toMarlin).getMessage();
        assertTrue(message.contains("INT4 INTEGER"), message);
        // 4 bits a code, 16 a scale, 4 a zero point.
        assertEquals(8 * 128 / 2 + 8 * 2 + 8 / 2, weights.sizeBytes());
    }

    @Test
    void pruningKeepsTheTwoLargestOfFour() {
        float[] weight = {3, -4, 1, 2, 5, 5, -5, 5, 0, 0, 0, 7};
        float[] expected = {3, -4, 0, 0, 5, 5, 0, 0, 0, 0, 0, 7};
        MemorySegment pruned =
                QuantizedWeights.pruneTwoOfFour(MemorySegment.ofArray(weight), DType.F32, 1, 12);
        assertArrayEquals(expected, pruned.toArray(ValueLayout.JAVA_FLOAT));
    }
}
