package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_device_options}: which workers a CPU device starts. */
public final class tarpon_device_options {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(C_INT.withName("struct_size"), C_INT.withName("thread_count"))
                    .withName("tarpon_device_options");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long thread_count$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("thread_count"));

    private tarpon_device_options() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void thread_count(MemorySegment struct, int value) {
        struct.set(C_INT, thread_count$OFFSET, value);
    }
}
