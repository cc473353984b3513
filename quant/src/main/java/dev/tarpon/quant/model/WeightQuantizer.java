package dev.tarpon.quant.model;

import dev.tarpon.DType;
import dev.tarpon.QuantizedWeights;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Round-to-nearest 4-bit quantisation of matrices, through the library. */
public final class WeightQuantizer {
    private WeightQuantizer() {}

    /**
     * Quantises a matrix.
     *
     * @param groupSize input features that share a scale: 128, or -1 for all of them
     */
    public static QuantizedWeights quantize(Matrix weight, int groupSize) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment values = arena.allocateFrom(ValueLayout.JAVA_FLOAT, weight.transposed());
            return QuantizedWeights.quantize(
                    values, DType.F32, weight.outFeatures(), weight.inFeatures(), groupSize);
        }
    }

    /** What the 4-bit weights stand for. */
    public static Matrix dequantize(QuantizedWeights weights) {
        return new Matrix(
                Math.toIntExact(weights.inFeatures()),
                Math.toIntExact(weights.outFeatures()),
                weights.dequantize());
    }
}
