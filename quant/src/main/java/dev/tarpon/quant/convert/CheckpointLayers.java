package dev.tarpon.quant.convert;

import dev.tarpon.QuantizedWeights;
import dev.tarpon.Status;
import dev.tarpon.TarponException;
import dev.tarpon.WeightFormat;
import dev.tarpon.ZeroType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.Names;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * Layers of GPTQ and AWQ checkpoints, as what their zero points say they are: symmetric if all of
 * them are the middle of the codes (as symmetric checkpoints store them), else with integer zero
 * points. The weights are the same either way; symmetric ones take less and run on more kernels.
 */
public final class CheckpointLayers {
    private CheckpointLayers() {}

    /**
     * A GPTQ layer; see {@link QuantizedWeights#fromGptq}.
     *
     * @param qzeros or null, which only symmetric layers have
     * @param integer the format with integer zero points
     */
    public static QuantizedWeights gptq(
            MemorySegment qweight,
            MemorySegment qzeros,
            MemorySegment scales,
            MemorySegment gIdx,
            boolean v2,
            long outFeatures,
            long inFeatures,
            WeightFormat integer) {
        return read(
                qzeros,
                integer,
                format ->
                        QuantizedWeights.fromGptq(
                                qweight,
                                qzeros,
                                scales,
                                gIdx,
                                v2,
                                outFeatures,
                                inFeatures,
                                format));
    }

    /** An AWQ layer, likewise; see {@link QuantizedWeights#fromAwq}. */
    public static QuantizedWeights awq(
            MemorySegment qweight,
            MemorySegment qzeros,
            MemorySegment scales,
            long outFeatures,
            long inFeatures,
            WeightFormat integer) {
        return read(
                qzeros,
                integer,
                format ->
                        QuantizedWeights.fromAwq(
                                qweight, qzeros, scales, outFeatures, inFeatures, format));
    }

    private static QuantizedWeights read(
            MemorySegment qzeros,
            WeightFormat integer,
            Function<WeightFormat, QuantizedWeights> reader) {
        var symmetric =
                new WeightFormat(
                        integer.weightType(),
                        ZeroType.SYMMETRIC,
                        integer.scaleType(),
                        integer.groupSize());
        if (qzeros == null) {
            return reader.apply(symmetric);
        }
        QuantizedWeights weights = reader.apply(integer);
        byte middle = (byte) (1 << integer.weightType().bits() - 1);
        for (byte zero : weights.zeros().orElseThrow().toArray(ValueLayout.JAVA_BYTE)) {
            if (zero != middle) {
                return weights;
            }
        }
        return reader.apply(symmetric);
    }

    /** Runs a reader; what the library refuses becomes a complaint about the file's tensor. */
    public static QuantizedWeights named(
            String source, String tensor, Supplier<QuantizedWeights> reader)
            throws FormatException {
        try {
            return reader.get();
        } catch (TarponException e) {
            if (e.status() != Status.INVALID_ARGUMENT && e.status() != Status.UNSUPPORTED) {
                throw e;
            }
            throw refused(source, tensor, e);
        } catch (IllegalArgumentException e) {
            throw refused(source, tensor, e);
        }
    }

    private static FormatException refused(String source, String tensor, RuntimeException e) {
        return new FormatException(
                source,
                "tensor %s is refused: %s".formatted(Names.quote(tensor), e.getMessage()),
                e);
    }
}
