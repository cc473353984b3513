package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_CHAR;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_optim_info}: what was chosen for an optimizer. */
public final class tarpon_optim_info {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("reserved"),
                            C_LONG.withName("workspace_bytes"),
                            MemoryLayout.sequenceLayout(64, C_CHAR).withName("variant"))
                    .withName("tarpon_optim_info");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long workspace_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("workspace_bytes"));
    private static final long variant$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("variant"));

    private tarpon_optim_info() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static long workspace_bytes(MemorySegment struct) {
        return struct.get(C_LONG, workspace_bytes$OFFSET);
    }

    public static String variant(MemorySegment struct) {
        return struct.getString(variant$OFFSET);
    }
}
