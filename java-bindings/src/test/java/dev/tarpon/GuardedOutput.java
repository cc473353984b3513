package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * An output tensor full of NaN in the middle of a larger allocation full of NaN, so that what a run
 * does not write, and what it writes outside, can be seen. Its address is aligned to one element
 * and to no more.
 */
final class GuardedOutput implements AutoCloseable {
    private static final int GUARD_ELEMS = 67;
    private static final byte POISON = (byte) 0xff; // NaN in every floating-point dtype

    private final Tensor whole;
    private final Tensor y;
    private final byte[] bytes;

    GuardedOutput(Device device, DType dtype, int rows, int columns) {
        long elems = (long) rows * columns;
        whole = device.allocate(dtype, elems + 2 * GUARD_ELEMS);
        long address = whole.address() + (long) GUARD_ELEMS * dtype.bytes();
        y = device.wrapAddress(address, dtype, rows, columns);
        bytes = new byte[Math.toIntExact(whole.sizeBytes())];
    }

    Tensor y() {
        return y;
    }

    /** Fills output and guards with NaN. */
    void poison() {
        Arrays.fill(bytes, POISON);
        whole.copyFrom(MemorySegment.ofArray(bytes));
    }

    /** The first {@code rows} rows, after a check that nothing else was written. */
    float[] read(int rows, Stream stream) {
        whole.copyTo(MemorySegment.ofArray(bytes), stream);
        DType dtype = y.dtype();
        int columns = (int) y.columns();
        int begin = GUARD_ELEMS * dtype.bytes();
        int end = begin + rows * columns * dtype.bytes();
        for (int i = 0; i < bytes.length; i++) {
            if ((i < begin || i >= end) && bytes[i] != POISON) {
                assertEquals(
                        POISON,
                        bytes[i],
                        "byte %d from the start of y, whose %d rows end at %d, was written"
                                .formatted(i - begin, rows, end - begin));
            }
        }
        float[] values = new float[rows * columns];
        HostMemory.decode(MemorySegment.ofArray(bytes).asSlice(begin), dtype, values);
        return values;
    }

    @Override
    public void close() {
        y.close();
        whole.close();
    }
}
