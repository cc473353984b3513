package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_optim_desc}: rule and parameters of an optimizer. */
public final class tarpon_optim_desc {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("rule"),
                            C_LONG.withName("tensor_count"),
                            C_POINTER.withName("tensors"),
                            C_POINTER.withName("variant"))
                    .withName("tarpon_optim_desc");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long rule$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("rule"));
    private static final long tensor_count$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("tensor_count"));
    private static final long tensors$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("tensors"));
    private static final long variant$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("variant"));

    private tarpon_optim_desc() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void rule(MemorySegment struct, int value) {
        struct.set(C_INT, rule$OFFSET, value);
    }

    public static void tensor_count(MemorySegment struct, long value) {
        struct.set(C_LONG, tensor_count$OFFSET, value);
    }

    public static void tensors(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, tensors$OFFSET, value);
    }

    public static void variant(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, variant$OFFSET, value);
    }
}
