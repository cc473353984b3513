package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_CHAR;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_device_info}: what a device says about itself. */
public final class tarpon_device_info {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("kind"),
                            C_INT.withName("ordinal"),
                            C_INT.withName("compute_capability"),
                            C_INT.withName("processor_count"),
                            C_INT.withName("reserved"),
                            C_LONG.withName("memory_bytes"),
                            MemoryLayout.sequenceLayout(128, C_CHAR).withName("name"),
                            MemoryLayout.sequenceLayout(64, C_CHAR).withName("isa"))
                    .withName("tarpon_device_info");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long kind$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("kind"));
    private static final long ordinal$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("ordinal"));
    private static final long compute_capability$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("compute_capability"));
    private static final long processor_count$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("processor_count"));
    private static final long memory_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("memory_bytes"));
    private static final long name$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("name"));
    private static final long isa$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("isa"));

    private tarpon_device_info() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static int kind(MemorySegment struct) {
        return struct.get(C_INT, kind$OFFSET);
    }

    public static int ordinal(MemorySegment struct) {
        return struct.get(C_INT, ordinal$OFFSET);
    }

    public static int compute_capability(MemorySegment struct) {
        return struct.get(C_INT, compute_capability$OFFSET);
    }

    public static int processor_count(MemorySegment struct) {
        return struct.get(C_INT, processor_count$OFFSET);
    }

    public static long memory_bytes(MemorySegment struct) {
        return struct.get(C_LONG, memory_bytes$OFFSET);
    }

    public static String name(MemorySegment struct) {
        return struct.getString(name$OFFSET);
    }

    public static String isa(MemorySegment struct) {
        return struct.getString(isa$OFFSET);
    }
}
