package dev.tarpon.format;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * A named tensor in host memory: row-major, contiguous, little-endian.
 *
 * <p>The data may be a view of a mapped file, which is then valid as long as the file is open and
 * may lie at any byte: read it through this class, or through {@link #aligned(Arena)}.
 *
 * @param name its name in the file
 * @param type element type
 * @param shape dimensions, outermost first; empty for a scalar
 * @param data exactly as many bytes as type and shape ask for
 */
public record HostTensor(String name, ElementType type, long[] shape, MemorySegment data) {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT =
            ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Checks that the data has the size that type and shape ask for. */
    public HostTensor {
        shape = shape.clone();
        long expected = Math.multiplyExact(Shapes.elements(shape), (long) type.bytes());
        if (data.byteSize() != expected) {
            throw new IllegalArgumentException(
                    "tensor %s: %s of type %s needs %d bytes, got %d"
                            .formatted(
                                    Names.quote(name),
                                    Shapes.text(shape),
                                    type,
                                    expected,
                                    data.byteSize()));
        }
    }

    /** A tensor over Java floats, which it copies into native memory of the arena. */
    public static HostTensor ofFloats(Arena arena, String name, float[] values, long... shape) {
        return new HostTensor(
                name, ElementType.F32, shape, arena.allocateFrom(ValueLayout.JAVA_FLOAT, values));
    }

    @Override
    public long[] shape() {
        return shape.clone();
    }

    /** The number of dimensions. */
    public int rank() {
        return shape.length;
    }

    /** One dimension, counted from the outermost. */
    public long dimension(int axis) {
        return shape[axis];
    }

    /** The number of elements. */
    public long elements() {
        return Shapes.elements(shape);
    }

    /** The same tensor under another name. */
    public HostTensor renamed(String newName) {
        return new HostTensor(newName, type, shape, data);
    }

    /**
     * The data where native code may read it: the same segment if it is native and aligned to its
     * element size, otherwise a copy allocated from the arena.
     */
    public MemorySegment aligned(Arena arena) {
        if (data.isNative() && data.address() % type.bytes() == 0) {
            return data;
        }
        MemorySegment copy = arena.allocate(Math.max(1, data.byteSize()), 64);
        return copy.asSlice(0, data.byteSize()).copyFrom(data);
    }

    /**
     * All elements as Java floats.
     *
     * @throws IllegalStateException unless the type is F32, F16 or BF16
     */
    public float[] toFloats() {
        float[] values = new float[Math.toIntExact(elements())];
        switch (type) {
            case F32 -> MemorySegment.copy(data, FLOAT, 0, values, 0, values.length);
            case F16 -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = Float.float16ToFloat(data.get(SHORT, 2L * i));
                }
            }
            case BF16 -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = Float.intBitsToFloat(data.get(SHORT, 2L * i) << 16);
                }
            }
            default ->
                    throw new IllegalStateException(
                            "tensor %s has type %s; F32, F16 or BF16 is needed"
                                    .formatted(Names.quote(name), type));
        }
        return values;
    }

    /**
     * All elements as Java ints.
     *
     * @throws IllegalStateException unless the type is I32
     */
    public int[] toInts() {
        if (type != ElementType.I32) {
            throw new IllegalStateException(
                    "tensor %s has type %s; I32 is needed".formatted(Names.quote(name), type));
        }
        int[] values = new int[Math.toIntExact(elements())];
        MemorySegment.copy(data, INT, 0, values, 0, values.length);
        return values;
    }

    /** Type and shape as messages show them: F16 [2, 3]. */
    public String description() {
        return type + " " + Shapes.text(shape);
    }
}
