package dev.tarpon.bench.linear;

import dev.tarpon.QuantizedWeights;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * 4-bit weights, two codes of neighbouring columns in a byte, dequantised a row at a time right
 * before use: what a Java program writes that cannot afford the memory of fp32 weights.
 */
final class JavaW4Linear extends JavaLinear {
    private final byte[][] codes; // [inFeatures, outFeatures / 2], the even column in the low bits
    private final float[] scales; // [groups, outFeatures]

    JavaW4Linear(LinearCase layer, SampleLayer sample, int sets) {
        super(layer, sample, sets);
        QuantizedWeights weights = sample.weights();
        codes = new byte[sets][];
        codes[0] = pack(weights.codes());
        for (int i = 1; i < sets; i++) {
            codes[i] = codes[0].clone();
        }
        scales = new float[Math.toIntExact(weights.groups() * outFeatures)];
        for (int i = 0; i < scales.length; i++) {
            scales[i] =
                    Float.float16ToFloat(
                            weights.scales().getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i));
        }
    }

    private static byte[] pack(MemorySegment plain) {
        byte[] packed = new byte[Math.toIntExact(plain.byteSize() / 2)];
        for (int i = 0; i < packed.length; i++) {
            int low = plain.get(ValueLayout.JAVA_BYTE, 2L * i);
            int high = plain.get(ValueLayout.JAVA_BYTE, 2L * i + 1);
            packed[i] = (byte) (high << 4 | low);
        }
        return packed;
    }

    @Override
    protected void runColumns(int set, int begin, int end) {
        byte[] packed = codes[set];
        float[] w = new float[end - begin];
        for (int row = 0; row < rows; row++) {
            Arrays.fill(y, row * outFeatures + begin, row * outFeatures + end, 0);
        }
        for (int k = 0; k < inFeatures; k++) {
            int packedOffset = (k * outFeatures + begin) / 2;
            int scaleOffset = k / LinearCase.GROUP_SIZE * outFeatures + begin;
            for (int i = 0; i < w.length / 2; i++) {
                int pair = packed[packedOffset + i];
                w[2 * i] = ((pair & 15) - 8) * scales[scaleOffset + 2 * i];
                w[2 * i + 1] = ((pair >>> 4 & 15) - 8) * scales[scaleOffset + 2 * i + 1];
            }
            for (int row = 0; row < rows; row++) {
                addScaled(row, x[row * inFeatures + k], w, 0, begin, end);
            }
        }
    }
}
