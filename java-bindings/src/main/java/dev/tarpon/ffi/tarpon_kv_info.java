package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_CHAR;
import static dev.tarpon.ffi.tarpon_h.C_DOUBLE;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_kv_info}: sizes of a KV cache and what was chosen for it. */
public final class tarpon_kv_info {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("format_version"),
                            C_LONG.withName("page_bytes"),
                            C_LONG.withName("recent_bytes"),
                            C_DOUBLE.withName("bits_per_value"),
                            MemoryLayout.sequenceLayout(64, C_CHAR).withName("variant"))
                    .withName("tarpon_kv_info");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long format_version$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("format_version"));
    private static final long page_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("page_bytes"));
    private static final long recent_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("recent_bytes"));
    private static final long bits_per_value$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("bits_per_value"));
    private static final long variant$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("variant"));

    private tarpon_kv_info() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static int format_version(MemorySegment struct) {
        return struct.get(C_INT, format_version$OFFSET);
    }

    public static long page_bytes(MemorySegment struct) {
        return struct.get(C_LONG, page_bytes$OFFSET);
    }

    public static long recent_bytes(MemorySegment struct) {
        return struct.get(C_LONG, recent_bytes$OFFSET);
    }

    public static double bits_per_value(MemorySegment struct) {
        return struct.get(C_DOUBLE, bits_per_value$OFFSET);
    }

    public static String variant(MemorySegment struct) {
        return struct.getString(variant$OFFSET);
    }
}
