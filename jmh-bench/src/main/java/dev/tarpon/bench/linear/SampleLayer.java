package dev.tarpon.bench.linear;

import dev.tarpon.QuantizedWeights;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;

/** Random weights and activations, the same for every implementation of one case. */
final class SampleLayer {
    private static final long SEED = 0x7A4907;

    private final QuantizedWeights weights;
    private final float[] x;

    SampleLayer(LinearCase layer) {
        SplittableRandom random = new SplittableRandom(SEED);
        long in = layer.inFeatures();
        long out = layer.outFeatures();
        long groups = Math.ceilDiv(in, LinearCase.GROUP_SIZE);
        Arena arena = Arena.ofAuto();
        MemorySegment codes = arena.allocate(in * out);
        for (long i = 0; i < in * out; i++) {
            codes.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt(16));
        }
        MemorySegment scales = arena.allocate(ValueLayout.JAVA_SHORT, groups * out);
        for (long i = 0; i < groups * out; i++) {
            short scale = Float.floatToFloat16((float) random.nextDouble(0.005, 0.02));
            scales.setAtIndex(ValueLayout.JAVA_SHORT, i, scale);
        }
        weights = QuantizedWeights.of(codes, scales, out, in, LinearCase.GROUP_SIZE);
        x = new float[Math.toIntExact(layer.rows() * in)];
        for (int i = 0; i < x.length; i++) {
            // Eighths up to 1 are exact in every dtype, so that all implementations see the same x.
            x[i] = random.nextInt(-8, 9) / 8f;
        }
    }

    QuantizedWeights weights() {
        return weights;
    }

    /** Activations [rows, inFeatures]. */
    float[] x() {
        return x;
    }
}
