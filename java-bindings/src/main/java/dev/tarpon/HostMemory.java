package dev.tarpon;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Segments of host memory as native code takes them, and floats as the dtypes keep them. */
final class HostMemory {
    private HostMemory() {}

    /** The segment itself if it is native, else a copy that lives as long as the arena. */
    static MemorySegment nativeCopy(MemorySegment segment, Arena arena) {
        if (segment.isNative()) {
            return segment;
        }
        return arena.allocate(segment.byteSize(), Long.BYTES).copyFrom(segment);
    }

    /** Checks that a segment has exactly the expected size. */
    static void requireSize(String what, MemorySegment segment, long bytes) {
        if (segment.byteSize() != bytes) {
            throw new IllegalArgumentException(
                    "%s takes %d bytes; the segment has %d"
                            .formatted(what, bytes, segment.byteSize()));
        }
    }

    /** Writes floats as elements of a floating-point dtype, rounded to nearest even. */
    static void encode(float[] values, DType dtype, MemorySegment target) {
        switch (dtype) {
            case F32 ->
                    MemorySegment.copy(
                            values, 0, target, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values.length);
            case F16 -> {
                for (int i = 0; i < values.length; i++) {
                    short bits = HalfFloats.toFloat16(values[i]);
                    target.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, bits);
                }
            }
            case BF16 -> {
                for (int i = 0; i < values.length; i++) {
                    short bits = HalfFloats.toBFloat16(values[i]);
                    target.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, bits);
                }
            }
            case U8, I32 -> throw notFloating(dtype);
        }
    }

    /** Reads elements of a floating-point dtype, exactly. */
    static void decode(MemorySegment source, DType dtype, float[] values) {
        switch (dtype) {
            case F32 ->
                    MemorySegment.copy(
                            source, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values, 0, values.length);
            case F16 -> {
                for (int i = 0; i < values.length; i++) {
                    short bits = source.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i);
                    values[i] = HalfFloats.fromFloat16(bits);
                }
            }
            case BF16 -> {
                for (int i = 0; i < values.length; i++) {
                    short bits = source.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i);
                    values[i] = HalfFloats.fromBFloat16(bits);
                }
            }
            case U8, I32 -> throw notFloating(dtype);
        }
    }

    /** The length of a Java array of so many elements. */
    static int arrayLength(String what, long size) {
        if (size > Integer.MAX_VALUE - 8) {
            throw new IllegalArgumentException(
                    "%s has %d elements; a Java array holds at most %d"
                            .formatted(what, size, Integer.MAX_VALUE - 8));
        }
        return (int) size;
    }

    private static IllegalArgumentException notFloating(DType dtype) {
        return new IllegalArgumentException(
                "dtype is %s; floats convert to and from F32, F16 and BF16; copy a MemorySegment"
                        .formatted(dtype));
    }
}
