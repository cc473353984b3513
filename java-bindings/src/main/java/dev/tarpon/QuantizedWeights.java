package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_LONG;

import dev.tarpon.ffi.tarpon_linear_h;
import dev.tarpon.ffi.tarpon_weights_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;
import java.util.Optional;

/**
 * The quantised weights of a linear layer in host memory, in plain order:
 *
 * <ul>
 *   <li>codes: uint8 [inFeatures, outFeatures];
 *   <li>scales: [groups, outFeatures] of the format's scale type, finite;
 *   <li>zeros: [groups, outFeatures], uint8 zero points or minimums of the scale type; none if the
 *       format is symmetric;
 *   <li>input groups: int32 [inFeatures], the group of each input (act-order); none if input k is
 *       in group k / groupSize.
 * </ul>
 *
 * <p>{@link ZeroType} says how a weight is made of them. Immutable and thread-safe; the memory is
 * freed by the garbage collector. The factories copy what they are given, from native memory or
 * from the Java heap. Sizes that no format has are {@link TarponException}s with status
 * INVALID_ARGUMENT or UNSUPPORTED; segments of another size and contents that no weight may have
 * are {@link IllegalArgumentException}s that name the place.
 */
public final class QuantizedWeights {
    private final WeightFormat format;
    private final long outFeatures;
    private final long inFeatures;
    private final MemorySegment codes;
    private final MemorySegment scales;
    private final MemorySegment zeros; // or null
    private final MemorySegment inputGroups; // or null

    /** Allocates what the format asks for, to be filled by the factory, which has checked sizes. */
    private QuantizedWeights(
            WeightFormat format, long outFeatures, long inFeatures, MemorySegment inputGroups) {
        this.format = format;
        this.outFeatures = outFeatures;
        this.inFeatures = inFeatures;
        Arena arena = Arena.ofAuto();
        codes = arena.allocate(outFeatures * inFeatures, Long.BYTES);
        long count = format.groups(inFeatures) * outFeatures;
        scales = arena.allocate(count * format.scaleType().bytes(), Long.BYTES);
        zeros =
                format.zeroType() == ZeroType.SYMMETRIC
                        ? null
                        : arena.allocate(count * format.zeroBytes(), Long.BYTES);
        this.inputGroups =
                inputGroups == null
                        ? null
                        : arena.allocate(inputGroups.byteSize(), Long.BYTES).copyFrom(inputGroups);
    }

    /**
     * Quantises to the nearest code, in a format of any kind; {@code tarpon_weights_quantize} in
     * tarpon.h has the formulas. {@link WeightFormat#marlin} gives scale = binary16(max|w| * 2/15)
     * over each group, as the original MARLIN packer does (Frantar et al., "MARLIN: Mixed-Precision
     * Auto-Regressive Parallel Inference on Large Language Models").
     *
     * @param weight [outFeatures, inFeatures], as torch.nn.Linear keeps it
     * @param dtype F32, F16 or BF16
     * @throws TarponException for a weight that is not finite or a scale that overflows, naming it
     */
    public static QuantizedWeights quantize(
            MemorySegment weight,
            DType dtype,
            long outFeatures,
            long inFeatures,
            WeightFormat format) {
        Objects.requireNonNull(format, "format");
        requireWeight(weight, dtype, outFeatures, inFeatures, format.groupSize());
        QuantizedWeights result = new QuantizedWeights(format, outFeatures, inFeatures, null);
        try (Arena arena = Arena.ofConfined()) {
            TarponException.check(
                    tarpon_weights_h.tarpon_weights_quantize(
                            LinearStructs.description(format, outFeatures, inFeatures, arena),
                            HostMemory.nativeCopy(weight, arena),
                            dtype.id(),
                            result.codes,
                            result.scales,
                            result.zeros == null ? MemorySegment.NULL : result.zeros));
        }
        return result;
    }

    /** As above, in {@link WeightFormat#marlin MARLIN's format}. */
    public static QuantizedWeights quantize(
            MemorySegment weight, DType dtype, long outFeatures, long inFeatures, int groupSize) {
        return quantize(weight, dtype, outFeatures, inFeatures, WeightFormat.marlin(groupSize));
    }

    /** As above, of F32 weights in an array. */
    public static QuantizedWeights quantize(
            float[] weight, long outFeatures, long inFeatures, int groupSize) {
        Objects.requireNonNull(weight, "weight");
        return quantize(
                MemorySegment.ofArray(weight), DType.F32, outFeatures, inFeatures, groupSize);
    }

    /**
     * Prunes to 2:4 by magnitude: of each four weights of an output feature, inputs 4i..4i+3, the
     * two largest stay, of equal ones the first; the others become 0.
     *
     * @param weight [outFeatures, inFeatures], as torch.nn.Linear keeps it
     * @param dtype F32, F16 or BF16
     * @return a pruned copy, native and freed by the garbage collector
     * @throws TarponException for a weight that is not finite, naming it
     */
    public static MemorySegment pruneTwoOfFour(
            MemorySegment weight, DType dtype, long outFeatures, long inFeatures) {
        requireWeight(weight, dtype, outFeatures, inFeatures, -1);
        MemorySegment pruned = Arena.ofAuto().allocate(weight.byteSize(), Long.BYTES);
        try (Arena arena = Arena.ofConfined()) {
            TarponException.check(
                    tarpon_weights_h.tarpon_prune_2_4(
                            HostMemory.nativeCopy(weight, arena),
                            dtype.id(),
                            outFeatures,
                            inFeatures,
                            pruned));
        }
        return pruned;
    }

    private static void requireWeight(
            MemorySegment weight, DType dtype, long outFeatures, long inFeatures, int groupSize) {
        Objects.requireNonNull(weight, "weight");
        Objects.requireNonNull(dtype, "dtype");
        requireShape(outFeatures, inFeatures, groupSize);
        HostMemory.requireSize(
                "weight %s[%d, %d]".formatted(dtype, outFeatures, inFeatures),
                weight,
                outFeatures * inFeatures * dtype.bytes());
    }

    /**
     * Takes weights that are quantised already.
     *
     * @param zeros null if the format is symmetric
     * @param inputGroups int32 [inFeatures], or null; every group has groupSize inputs, the last
     *     what is left
     */
    public static QuantizedWeights of(
            MemorySegment codes,
            MemorySegment scales,
            MemorySegment zeros,
            MemorySegment inputGroups,
            long outFeatures,
            long inFeatures,
            WeightFormat format) {
        Objects.requireNonNull(codes, "codes");
        Objects.requireNonNull(scales, "scales");
        Objects.requireNonNull(format, "format");
        requireShape(outFeatures, inFeatures, format.groupSize());
        long groups = format.groups(inFeatures);
        HostMemory.requireSize(
                "codes U8[%d, %d]".formatted(inFeatures, outFeatures),
                codes,
                outFeatures * inFeatures);
        HostMemory.requireSize(
                "scales %s[%d, %d]".formatted(format.scaleType(), groups, outFeatures),
                scales,
                groups * outFeatures * format.scaleType().bytes());
        return unpack(
                tarpon_linear_h.TARPON_LAYOUT_PLAIN,
                new Packed(codes, scales, zeros, inputGroups),
                outFeatures,
                inFeatures,
                format);
    }

    /** As above, in {@link WeightFormat#marlin MARLIN's format}. */
    public static QuantizedWeights of(
            MemorySegment codes,
            MemorySegment scales,
            long outFeatures,
            long inFeatures,
            int groupSize) {
        return of(
                codes, scales, null, null, outFeatures, inFeatures, WeightFormat.marlin(groupSize));
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
        MarlinBytes bytes = requireShape(outFeatures, inFeatures, groupSize);
        String layer = " of a layer with %d x %d features".formatted(inFeatures, outFeatures);
        HostMemory.requireSize("MARLIN qweight" + layer, qweight, bytes.qweight);
        HostMemory.requireSize("MARLIN scales" + layer, scalesPacked, bytes.scales);
        return unpack(
                tarpon_linear_h.TARPON_LAYOUT_MARLIN,
                new Packed(qweight, scalesPacked, null, null),
                outFeatures,
                inFeatures,
                WeightFormat.marlin(groupSize));
    }

    /**
     * Takes a layer of a GPTQ checkpoint.
     *
     * @param qweight int32 [inFeatures * bits / 32, outFeatures]
     * @param qzeros int32 [groups, outFeatures * bits / 32]; null only for a symmetric format,
     *     whose zero points, where they are given, must be the middle of the codes
     * @param scales [groups, outFeatures] of the format's scale type
     * @param gIdx int32 [inFeatures], or null
     * @param v2 whether zero points are stored as they are ("gptq_v2") instead of less one
     * @param format INT4 or INT8, SYMMETRIC or INTEGER
     */
    public static QuantizedWeights fromGptq(
            MemorySegment qweight,
            MemorySegment qzeros,
            MemorySegment scales,
            MemorySegment gIdx,
            boolean v2,
            long outFeatures,
            long inFeatures,
            WeightFormat format) {
        Objects.requireNonNull(qweight, "qweight");
        Objects.requireNonNull(scales, "scales");
        Objects.requireNonNull(format, "format");
        requireShape(outFeatures, inFeatures, format.groupSize());
        requireCodes("GPTQ", qweight, outFeatures, inFeatures, format);
        return unpack(
                v2 ? tarpon_linear_h.TARPON_LAYOUT_GPTQ_V2 : tarpon_linear_h.TARPON_LAYOUT_GPTQ,
                new Packed(qweight, scales, qzeros, gIdx),
                outFeatures,
                inFeatures,
                format);
    }

    /**
     * Takes a layer of an AWQ checkpoint ("gemm" version).
     *
     * @param qweight int32 [inFeatures, outFeatures / 8]
     * @param qzeros int32 [groups, outFeatures / 8]; null only for a symmetric format
     * @param scales [groups, outFeatures] of the format's scale type
     * @param format INT4, SYMMETRIC or INTEGER
     */
    public static QuantizedWeights fromAwq(
            MemorySegment qweight,
            MemorySegment qzeros,
            MemorySegment scales,
            long outFeatures,
            long inFeatures,
            WeightFormat format) {
        Objects.requireNonNull(qweight, "qweight");
        Objects.requireNonNull(scales, "scales");
        Objects.requireNonNull(format, "format");
        requireShape(outFeatures, inFeatures, format.groupSize());
        requireCodes("AWQ", qweight, outFeatures, inFeatures, format);
        return unpack(
                tarpon_linear_h.TARPON_LAYOUT_AWQ,
                new Packed(qweight, scales, qzeros, null),
                outFeatures,
                inFeatures,
                format);
    }

    /**
     * Takes a matrix of a GGUF file: outFeatures rows of inFeatures. Its dequantised weights are
     * those of ggml, bit for bit.
     *
     * @param blocks as the file has them
     */
    public static QuantizedWeights fromGguf(
            MemorySegment blocks, GgufType type, long outFeatures, long inFeatures) {
        Objects.requireNonNull(blocks, "blocks");
        Objects.requireNonNull(type, "type");
        WeightFormat format = type.format();
        requireShape(outFeatures, inFeatures, format.groupSize());
        HostMemory.requireSize(
                "%s blocks of a layer with %d x %d features"
                        .formatted(type, inFeatures, outFeatures),
                blocks,
                type.bytes(outFeatures, inFeatures));
        return unpack(
                type.layout(),
                new Packed(blocks, null, null, null),
                outFeatures,
                inFeatures,
                format);
    }

    private static void requireCodes(
            String layout,
            MemorySegment qweight,
            long outFeatures,
            long inFeatures,
            WeightFormat format) {
        HostMemory.requireSize(
                "%s qweight of a layer with %d x %d features"
                        .formatted(layout, inFeatures, outFeatures),
                qweight,
                outFeatures * inFeatures * format.weightType().bits() / 8);
    }

    /** What a layout has beside its sizes; all but the first may be null. */
    private record Packed(
            MemorySegment qweight,
            MemorySegment scales,
            MemorySegment zeros,
            MemorySegment inputGroups) {
        MemorySegment struct(int layout, Arena arena) {
            return LinearStructs.weights(
                    layout,
                    HostMemory.nativeCopy(qweight, arena),
                    copy(scales, arena),
                    copy(zeros, arena),
                    copy(inputGroups, arena),
                    arena);
        }

        private static MemorySegment copy(MemorySegment segment, Arena arena) {
            return segment == null ? null : HostMemory.nativeCopy(segment, arena);
        }
    }

    private static QuantizedWeights unpack(
            int layout, Packed packed, long outFeatures, long inFeatures, WeightFormat format) {
        QuantizedWeights result =
                new QuantizedWeights(
                        format,
                        outFeatures,
                        inFeatures,
                        inOrder(packed.inputGroups, inFeatures, format)
                                ? null
                                : packed.inputGroups);
        try (Arena arena = Arena.ofConfined()) {
            TarponException.check(
                    tarpon_weights_h.tarpon_weights_unpack(
                            LinearStructs.description(format, outFeatures, inFeatures, arena),
                            packed.struct(layout, arena),
                            result.codes,
                            result.scales,
                            result.zeros == null ? MemorySegment.NULL : result.zeros));
        } catch (TarponException failure) {
            if (failure.status() != Status.INVALID_ARGUMENT) {
                throw failure;
            }
            throw new IllegalArgumentException(
                    failure.getMessage().replace("weights->", ""), failure);
        }
        return result;
    }

    /** Whether the groups are none or what the group size says: there is no act-order then. */
    private static boolean inOrder(
            MemorySegment inputGroups, long inFeatures, WeightFormat format) {
        if (inputGroups == null) {
            return true;
        }
        if (inputGroups.byteSize() != inFeatures * Integer.BYTES) {
            return false; // for the library to refuse
        }
        long size = format.groupSize() == -1 ? inFeatures : format.groupSize();
        for (long k = 0; k < inFeatures; k++) {
            if (inputGroups.get(ValueLayout.JAVA_INT_UNALIGNED, k * Integer.BYTES) != k / size) {
                return false;
            }
        }
        return true;
    }

    /**
     * The same weights in MARLIN's order.
     *
     * @throws IllegalStateException for a format that it cannot hold
     */
    public MarlinWeights toMarlin() {
        if (!format.isMarlin() || inputGroups != null) {
            throw new IllegalStateException(
                    "%s: MARLIN's order holds INT4 SYMMETRIC weights with F16 scales, without"
                                    .formatted(this)
                            + " act-order");
        }
        MarlinBytes bytes = requireShape(outFeatures, inFeatures, format.groupSize());
        Arena arena = Arena.ofAuto();
        MemorySegment qweight = arena.allocate(bytes.qweight, Long.BYTES);
        MemorySegment packed = arena.allocate(bytes.scales, Long.BYTES);
        TarponException.check(
                tarpon_weights_h.tarpon_marlin_pack(
                        codes,
                        scales,
                        outFeatures,
                        inFeatures,
                        format.groupSize(),
                        qweight,
                        packed));
        return new MarlinWeights(qweight.asReadOnly(), packed.asReadOnly());
    }

    /**
     * The weights as floats, [inFeatures, outFeatures], each rounded once: exact with scales of 16
     * bits and no minimum, and what ggml computes for GGUF blocks.
     */
    public float[] dequantize() {
        int length = HostMemory.arrayLength(toString(), outFeatures * inFeatures);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment weight = arena.allocate(ValueLayout.JAVA_FLOAT, length);
            Packed plain = new Packed(codes, scales, zeros, inputGroups);
            TarponException.check(
                    tarpon_weights_h.tarpon_weights_dequantize(
                            LinearStructs.description(format, outFeatures, inFeatures, arena),
                            plain.struct(tarpon_linear_h.TARPON_LAYOUT_PLAIN, arena),
                            weight));
            return weight.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    public WeightFormat format() {
        return format;
    }

    /** uint8 [inFeatures, outFeatures], read-only. */
    public MemorySegment codes() {
        return codes.asReadOnly();
    }

    /** [groups, outFeatures] of the format's scale type, read-only. */
    public MemorySegment scales() {
        return scales.asReadOnly();
    }

    /** [groups, outFeatures], uint8 or the format's scale type, read-only; empty if symmetric. */
    public Optional<MemorySegment> zeros() {
        return Optional.ofNullable(zeros).map(MemorySegment::asReadOnly);
    }

    /** int32 [inFeatures], read-only; empty without act-order. */
    public Optional<MemorySegment> inputGroups() {
        return Optional.ofNullable(inputGroups).map(MemorySegment::asReadOnly);
    }

    public long inFeatures() {
        return inFeatures;
    }

    public long outFeatures() {
        return outFeatures;
    }

    /** The input features that share a scale: 32, 64, 128, or -1 for all of them. */
    public int groupSize() {
        return format.groupSize();
    }

    /** The number of scales of each output feature: ceil(inFeatures / groupSize), or 1. */
    public long groups() {
        return format.groups(inFeatures);
    }

    /**
     * What the weights take when packed without padding: 4 or 8 bits a code and a zero point, 16 or
     * 32 bits a scale and a minimum, 32 bits an input's group.
     */
    public long sizeBytes() {
        int bits = format.weightType().bits();
        long size = packedBytes(outFeatures * inFeatures, bits) + scales.byteSize();
        if (zeros != null) {
            size +=
                    format.zeroType() == ZeroType.INTEGER
                            ? packedBytes(zeros.byteSize(), bits)
                            : zeros.byteSize();
        }
        return inputGroups == null ? size : size + inputGroups.byteSize();
    }

    private static long packedBytes(long codes, int bits) {
        return Math.ceilDiv(codes * bits, 8L);
    }

    /** Such as "QuantizedWeights [4096, 4096] INT4 SYMMETRIC, scales F16, groups of 128". */
    @Override
    public String toString() {
        return "QuantizedWeights [%d, %d] %s%s"
                .formatted(
                        inFeatures, outFeatures, format, inputGroups == null ? "" : ", act-order");
    }

    private record MarlinBytes(long qweight, long scales) {}

    /**
     * The check of sizes for every factory, since the library is the one judge of which are legal,
     * and its messages have the values; and the sizes of MARLIN's order.
     */
    private static MarlinBytes requireShape(long outFeatures, long inFeatures, int groupSize) {
        Tarpon.requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment qweight = arena.allocate(C_LONG);
            MemorySegment scales = arena.allocate(C_LONG);
            TarponException.check(
                    tarpon_weights_h.tarpon_marlin_size(
                            outFeatures, inFeatures, groupSize, qweight, scales));
            return new MarlinBytes(qweight.get(C_LONG, 0), scales.get(C_LONG, 0));
        }
    }
}
