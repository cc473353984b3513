package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_LONG;

import dev.tarpon.ffi.tarpon_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;

/**
 * The 4-bit weights of a linear layer in host memory, in plain order:
 *
 * <ul>
 *   <li>codes: uint8 [inFeatures, outFeatures], each 0..15;
 *   <li>scales: binary16 [groups, outFeatures], finite;
 *   <li>weight [k, n] = (codes[k, n] - 8) * scales[k / groupSize, n].
 * </ul>
 *
 * <p>The group size is 32, 64, 128, or -1 for one group over all input features (per-channel
 * scales). Immutable and thread-safe; the memory is freed by the garbage collector. The factories
 * copy what they are given, from native memory or from the Java heap.
 */
public final class QuantizedWeights {
    private static final int PER_CHANNEL = -1;
    private static final long HIGH_NIBBLES = 0xf0f0f0f0f0f0f0f0L;
    private static final int F16_EXPONENT = 0x7c00;

    private final long outFeatures;
    private final long inFeatures;
    private final int groupSize;
    private final MemorySegment codes;
    private final MemorySegment scales;

    /** Allocates codes and scales, to be filled by the factory, which has checked the sizes. */
    private QuantizedWeights(long outFeatures, long inFeatures, int groupSize) {
        this.outFeatures = outFeatures;
        this.inFeatures = inFeatures;
        this.groupSize = groupSize;
        Arena arena = Arena.ofAuto();
        codes = arena.allocate(outFeatures * inFeatures, Long.BYTES);
        scales = arena.allocate(scalesBytes(outFeatures, inFeatures, groupSize), Long.BYTES);
    }

    /**
     * Quantises to the nearest code: scale = binary16(max|w| * 2/15) over each group, as the
     * original MARLIN packer does (Frantar et al., "MARLIN: Mixed-Precision Auto-Regressive
     * Parallel Inference on Large Language Models").
     *
     * @param weight [outFeatures, inFeatures], as torch.nn.Linear keeps it
     * @param dtype F32, F16 or BF16
     * @param groupSize 32, 64, 128, or -1
     * @throws TarponException for a weight that is not finite or a scale beyond binary16, naming it
     */
    public static QuantizedWeights quantize(
            MemorySegment weight, DType dtype, long outFeatures, long inFeatures, int groupSize) {
        Objects.requireNonNull(weight, "weight");
        Objects.requireNonNull(dtype, "dtype");
        marlinBytes(outFeatures, inFeatures, groupSize);
        HostMemory.requireSize(
                "weight %s[%d, %d]".formatted(dtype, outFeatures, inFeatures),
                weight,
                outFeatures * inFeatures * dtype.bytes());
        QuantizedWeights result = new QuantizedWeights(outFeatures, inFeatures, groupSize);
        try (Arena arena = Arena.ofConfined()) {
            TarponException.check(
                    tarpon_h.tarpon_w4_quantize(
                            HostMemory.nativeCopy(weight, arena),
                            dtype.id(),
                            outFeatures,
                            inFeatures,
                            groupSize,
                            result.codes,
                            result.scales));
        }
        return result;
    }

    /** As {@link #quantize(MemorySegment, DType, long, long, int)}, of F32 weights in an array. */
    public static QuantizedWeights quantize(
            float[] weight, long outFeatures, long inFeatures, int groupSize) {
        Objects.requireNonNull(weight, "weight");
        return quantize(
                MemorySegment.ofArray(weight), DType.F32, outFeatures, inFeatures, groupSize);
    }

    /**
     * Takes weights that are quantised already.
     *
     * @param codes uint8 [inFeatures, outFeatures]
     * @param scales binary16 [groups, outFeatures]
     * @param groupSize 32, 64, 128, or -1
     * @throws IllegalArgumentException for a code over 15 or a scale that is not finite, naming it
     */
    public static QuantizedWeights of(
            MemorySegment codes,
            MemorySegment scales,
            long outFeatures,
            long inFeatures,
            int groupSize) {
        Objects.requireNonNull(codes, "codes");
        Objects.requireNonNull(scales, "scales");
        marlinBytes(outFeatures, inFeatures, groupSize);
        HostMemory.requireSize(
                "codes U8[%d, %d]".formatted(inFeatures, outFeatures),
                codes,
                outFeatures * inFeatures);
        HostMemory.requireSize(
                "scales F16[%d, %d]".formatted(groups(inFeatures, groupSize), outFeatures),
                scales,
                scalesBytes(outFeatures, inFeatures, groupSize));
        QuantizedWeights result = new QuantizedWeights(outFeatures, inFeatures, groupSize);
        result.codes.copyFrom(codes);
        result.scales.copyFrom(scales);
        result.checkCodes();
        result.checkScales();
        return result;
    }

    /**
     * Takes weights in MARLIN's order; see {@link MarlinWeights} for the shapes.
     *
     * @param groupSize 32, 64, 128, or -1
     */
    public static QuantizedWeights fromMarlin(
            MemorySegment qweight,
            MemorySegment scalesPacked,
            long outFeatures,
            long inFeatures,
            int groupSize) {
        Objects.requireNonNull(qweight, "qweight");
        Objects.requireNonNull(scalesPacked, "scalesPacked");
        MarlinBytes bytes = marlinBytes(outFeatures, inFeatures, groupSize);
        String layer = " of a layer with %d x %d features".formatted(inFeatures, outFeatures);
        HostMemory.requireSize("MARLIN qweight" + layer, qweight, bytes.qweight);
        HostMemory.requireSize("MARLIN scales" + layer, scalesPacked, bytes.scales);
        QuantizedWeights result = new QuantizedWeights(outFeatures, inFeatures, groupSize);
        try (Arena arena = Arena.ofConfined()) {
            TarponException.check(
                    tarpon_h.tarpon_marlin_unpack(
                            HostMemory.nativeCopy(qweight, arena),
                            HostMemory.nativeCopy(scalesPacked, arena),
                            outFeatures,
                            inFeatures,
                            groupSize,
                            result.codes,
                            result.scales));
        }
        result.checkScales();
        return result;
    }

    /** The same weights in MARLIN's order. */
    public MarlinWeights toMarlin() {
        MarlinBytes bytes = marlinBytes(outFeatures, inFeatures, groupSize);
        Arena arena = Arena.ofAuto();
        MemorySegment qweight = arena.allocate(bytes.qweight, Long.BYTES);
        MemorySegment packed = arena.allocate(bytes.scales, Long.BYTES);
        TarponException.check(
                tarpon_h.tarpon_marlin_pack(
                        codes, scales, outFeatures, inFeatures, groupSize, qweight, packed));
        return new MarlinWeights(qweight.asReadOnly(), packed.asReadOnly());
    }

    /** The weights as floats, exactly: [inFeatures, outFeatures]. */
    public float[] dequantize() {
        int length = HostMemory.arrayLength(toString(), outFeatures * inFeatures);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment weight = arena.allocate(ValueLayout.JAVA_FLOAT, length);
            TarponException.check(
                    tarpon_h.tarpon_w4_dequantize(
                            codes, scales, outFeatures, inFeatures, groupSize, weight));
            return weight.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    /** uint8 [inFeatures, outFeatures], read-only. */
    public MemorySegment codes() {
        return codes.asReadOnly();
    }

    /** binary16 [groups, outFeatures], read-only. */
    public MemorySegment scales() {
        return scales.asReadOnly();
    }

    public long inFeatures() {
        return inFeatures;
    }

    public long outFeatures() {
        return outFeatures;
    }

    /** The input features that share a scale: 32, 64, 128, or -1 for all of them. */
    public int groupSize() {
        return groupSize;
    }

    /** The number of scales of each output feature: ceil(inFeatures / groupSize), or 1. */
    public long groups() {
        return groups(inFeatures, groupSize);
    }

    /** What the weights take when packed without padding: 4 bits a code, 16 bits a scale. */
    public long sizeBytes() {
        return Math.ceilDiv(outFeatures * inFeatures, 2) + scales.byteSize();
    }

    @Override
    public String toString() {
        return "QuantizedWeights [%d, %d] in groups of %s"
                .formatted(inFeatures, outFeatures, groupSize == PER_CHANNEL ? "all" : groupSize);
    }

    private record MarlinBytes(long qweight, long scales) {}

    /**
     * The sizes of MARLIN's order; and the check of sizes for every factory, since the library is
     * the one judge of which are legal, and its messages have the values.
     */
    private static MarlinBytes marlinBytes(long outFeatures, long inFeatures, int groupSize) {
        Tarpon.requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment qweight = arena.allocate(C_LONG);
            MemorySegment scales = arena.allocate(C_LONG);
            TarponException.check(
                    tarpon_h.tarpon_marlin_size(
                            outFeatures, inFeatures, groupSize, qweight, scales));
            return new MarlinBytes(qweight.get(C_LONG, 0), scales.get(C_LONG, 0));
        }
    }

    private static long groups(long inFeatures, int groupSize) {
        return groupSize == PER_CHANNEL ? 1 : Math.ceilDiv(inFeatures, groupSize);
    }

    private static long scalesBytes(long outFeatures, long inFeatures, int groupSize) {
        return Short.BYTES * groups(inFeatures, groupSize) * outFeatures;
    }

    private void checkCodes() {
        long bytes = codes.byteSize();
        long offset = 0;
        while (offset + Long.BYTES <= bytes
                && (codes.get(ValueLayout.JAVA_LONG, offset) & HIGH_NIBBLES) == 0) {
            offset += Long.BYTES;
        }
        for (; offset < bytes; offset++) {
            int code = Byte.toUnsignedInt(codes.get(ValueLayout.JAVA_BYTE, offset));
            if (code > 15) {
                throw new IllegalArgumentException(
                        "codes[%d, %d] is %d; a 4-bit code is 0..15"
                                .formatted(offset / outFeatures, offset % outFeatures, code));
            }
        }
    }

    private void checkScales() {
        for (long i = 0; i < groups() * outFeatures; i++) {
            short bits = scales.getAtIndex(ValueLayout.JAVA_SHORT, i);
            if ((bits & F16_EXPONENT) == F16_EXPONENT) {
                throw new IllegalArgumentException(
                        "scales[%d, %d] is %s; a scale must be finite"
                                .formatted(
                                        i / outFeatures,
                                        i % outFeatures,
                                        HalfFloats.fromFloat16(bits)));
            }
        }
    }
}
