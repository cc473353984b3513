package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_DOUBLE;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_optim_counters}: what the steps so far were. */
public final class tarpon_optim_counters {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("reserved"),
                            C_LONG.withName("step"),
                            C_LONG.withName("skipped_steps"),
                            C_LONG.withName("skipped_blocks"),
                            C_DOUBLE.withName("grad_norm"))
                    .withName("tarpon_optim_counters");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long step$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("step"));
    private static final long skipped_steps$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("skipped_steps"));
    private static final long skipped_blocks$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("skipped_blocks"));
    private static final long grad_norm$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("grad_norm"));

    private tarpon_optim_counters() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static long step(MemorySegment struct) {
        return struct.get(C_LONG, step$OFFSET);
    }

    public static void step(MemorySegment struct, long value) {
        struct.set(C_LONG, step$OFFSET, value);
    }

    public static long skipped_steps(MemorySegment struct) {
        return struct.get(C_LONG, skipped_steps$OFFSET);
    }

    public static void skipped_steps(MemorySegment struct, long value) {
        struct.set(C_LONG, skipped_steps$OFFSET, value);
    }

    public static long skipped_blocks(MemorySegment struct) {
        return struct.get(C_LONG, skipped_blocks$OFFSET);
    }

    public static void skipped_blocks(MemorySegment struct, long value) {
        struct.set(C_LONG, skipped_blocks$OFFSET, value);
    }

    public static double grad_norm(MemorySegment struct) {
        return struct.get(C_DOUBLE, grad_norm$OFFSET);
    }

    public static void grad_norm(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, grad_norm$OFFSET, value);
    }
}
