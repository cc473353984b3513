package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/**
 * {@code struct tarpon_kv_append_args}: tokens to store in a KV cache. Addresses are {@code long},
 * so that a call allocates nothing.
 */
public final class tarpon_kv_append_args {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("reserved"),
                            C_POINTER.withName("k"),
                            C_POINTER.withName("v"),
                            C_LONG.withName("tokens"),
                            C_POINTER.withName("slots"),
                            C_POINTER.withName("positions"),
                            C_POINTER.withName("rows"),
                            C_LONG.withName("batch"),
                            C_POINTER.withName("lengths"),
                            C_POINTER.withName("recent_index"),
                            C_POINTER.withName("pages"),
                            C_LONG.withName("page_count"),
                            C_POINTER.withName("recent"),
                            C_POINTER.withName("sink_positions"))
                    .withName("tarpon_kv_append_args");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long k$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("k"));
    private static final long v$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("v"));
    private static final long tokens$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("tokens"));
    private static final long slots$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("slots"));
    private static final long positions$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("positions"));
    private static final long rows$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("rows"));
    private static final long batch$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("batch"));
    private static final long lengths$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("lengths"));
    private static final long recent_index$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("recent_index"));
    private static final long pages$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("pages"));
    private static final long page_count$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("page_count"));
    private static final long recent$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("recent"));
    private static final long sink_positions$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("sink_positions"));

    private tarpon_kv_append_args() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void k(MemorySegment struct, long value) {
        struct.set(C_LONG, k$OFFSET, value);
    }

    public static void v(MemorySegment struct, long value) {
        struct.set(C_LONG, v$OFFSET, value);
    }

    public static void tokens(MemorySegment struct, long value) {
        struct.set(C_LONG, tokens$OFFSET, value);
    }

    public static void slots(MemorySegment struct, long value) {
        struct.set(C_LONG, slots$OFFSET, value);
    }

    public static void positions(MemorySegment struct, long value) {
        struct.set(C_LONG, positions$OFFSET, value);
    }

    public static void rows(MemorySegment struct, long value) {
        struct.set(C_LONG, rows$OFFSET, value);
    }

    public static void batch(MemorySegment struct, long value) {
        struct.set(C_LONG, batch$OFFSET, value);
    }

    public static void lengths(MemorySegment struct, long value) {
        struct.set(C_LONG, lengths$OFFSET, value);
    }

    public static void recent_index(MemorySegment struct, long value) {
        struct.set(C_LONG, recent_index$OFFSET, value);
    }

    public static void pages(MemorySegment struct, long value) {
        struct.set(C_LONG, pages$OFFSET, value);
    }

    public static void page_count(MemorySegment struct, long value) {
        struct.set(C_LONG, page_count$OFFSET, value);
    }

    public static void recent(MemorySegment struct, long value) {
        struct.set(C_LONG, recent$OFFSET, value);
    }

    public static void sink_positions(MemorySegment struct, long value) {
        struct.set(C_LONG, sink_positions$OFFSET, value);
    }
}
