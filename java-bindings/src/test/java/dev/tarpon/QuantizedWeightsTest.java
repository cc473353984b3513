package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;

/** 4-bit weights on the host: quantising, orders, immutability. */
class QuantizedWeightsTest {
    private static float[] randomWeight(int out, int in) {
        Random random = new Random(31L * out + in);
        float[] weight = new float[out * in];
        for (int i = 0; i < weight.length; i++) {
            weight[i] = (float) random.nextGaussian();
        }
        return weight;
    }

    @ParameterizedTest
    @CsvSource({"64,64,-1", "96,200,128", "1,1,-1", "1,129,128", "200,384,128", "65,1000,-1"})
    void weightsAreQuantisedToTheNearestCode(int out, int in, int groupSize) {
        float[] weight = randomWeight(out, in);
        QuantizedWeights weights =
                QuantizedWeights.quantize(
                        MemorySegment.ofArray(weight), DType.F32, out, in, groupSize);
        int rowsOfGroup = groupSize == -1 ? in : groupSize;
        assertEquals(Math.ceilDiv(in, rowsOfGroup), weights.groups());
        float[] back = weights.dequantize();
        for (int n = 0; n < out; n++) {
            for (int k = 0; k < in; k++) {
                float largest = 0;
                int begin = k / rowsOfGroup * rowsOfGroup;
                for (int i = begin; i < Math.min(in, begin + rowsOfGroup); i++) {
                    largest = Math.max(largest, Math.abs(weight[n * in + i]));
                }
                // Half a step of 2/15 of the largest, which itself is the top code's 7.5 steps, so
                // that the largest positive weight is off by half a step, too; scales are rounded.
                double bound = largest / 15 * (1 + 0x1p-9) + 8 * largest * 2 / 15 * 0x1p-11;
                assertEquals(weight[n * in + k], back[k * out + n], bound, "[" + n + "," + k + "]");
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"64,64,-1", "96,200,128", "1,1,-1", "1,129,128", "200,384,128", "65,1000,-1"})
    void marlinOrderIsInverted(int out, int in, int groupSize) {
        QuantizedWeights weights =
                QuantizedWeights.quantize(
                        MemorySegment.ofArray(randomWeight(out, in)),
                        DType.F32,
                        out,
                        in,
                        groupSize);
        MarlinWeights marlin = weights.toMarlin();
        QuantizedWeights back =
                QuantizedWeights.fromMarlin(marlin.qweight(), marlin.scales(), out, in, groupSize);
        assertEquals(-1, weights.codes().mismatch(back.codes()));
        assertEquals(-1, weights.scales().mismatch(back.scales()));
    }

    @Test
    void givenWeightsAreCopiedAndCannotBeChanged() {
        byte[] codes = new byte[64 * 64];
        short[] scales = new short[64];
        QuantizedWeights weights =
                QuantizedWeights.of(
                        MemorySegment.ofArray(codes), MemorySegment.ofArray(scales), 64, 64, -1);
        codes[0] = 9;
        assertEquals(0, weights.codes().get(ValueLayout.JAVA_BYTE, 0));
        assertThrows(
                IllegalArgumentException.class,
                () -> weights.codes().set(ValueLayout.JAVA_BYTE, 0, (byte) 1));
        assertThrows(
                IllegalArgumentException.class,
                () -> weights.toMarlin().qweight().set(ValueLayout.JAVA_INT, 0, 1));
        assertEquals(64 * 64 / 2 + 64 * 2, weights.sizeBytes());
        assertTrue(weights.toString().contains("[64, 64]"), weights::toString);
    }

    @Test
    void heapAndTypesDoNotMatter() {
        // Values that all three types keep exactly.
        float[] values = new float[64 * 128];
        short[] halves = new short[values.length];
        short[] brains = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            values[i] = (i * 37 % 31 - 15) / 16f;
            halves[i] = HalfFloats.toFloat16(values[i]);
            brains[i] = HalfFloats.toBFloat16(values[i]);
        }
        QuantizedWeights expected =
                QuantizedWeights.quantize(MemorySegment.ofArray(values), DType.F32, 64, 128, 128);
        QuantizedWeights fromBrains =
                QuantizedWeights.quantize(MemorySegment.ofArray(brains), DType.BF16, 64, 128, 128);
        QuantizedWeights fromHalves =
                QuantizedWeights.quantize(MemorySegment.ofArray(halves), DType.F16, 64, 128, 128);
        assertEquals(-1, expected.codes().mismatch(fromBrains.codes()));
        assertEquals(-1, expected.scales().mismatch(fromBrains.scales()));
        // F16 rounds the quotient as well, which the scales do not see.
        assertEquals(-1, expected.scales().mismatch(fromHalves.scales()));
    }
}
