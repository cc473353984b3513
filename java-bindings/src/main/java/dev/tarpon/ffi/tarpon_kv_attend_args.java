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
 * {@code struct tarpon_kv_attend_args}: queries over a KV cache. Addresses are {@code long}, so
 * that a call allocates nothing.
 */
public final class tarpon_kv_attend_args {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("queries"),
                            C_POINTER.withName("q"),
                            C_POINTER.withName("o"),
                            C_LONG.withName("batch"),
                            C_POINTER.withName("page_table"),
                            C_LONG.withName("table_stride"),
                            C_POINTER.withName("lengths"),
                            C_LONG.withName("max_length"),
                            C_POINTER.withName("recent_index"),
                            C_POINTER.withName("pages"),
                            C_LONG.withName("page_count"),
                            C_POINTER.withName("recent"),
                            C_POINTER.withName("workspace"),
                            C_LONG.withName("workspace_bytes"),
                            C_POINTER.withName("sink_positions"))
                    .withName("tarpon_kv_attend_args");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long queries$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("queries"));
    private static final long q$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("q"));
    private static final long o$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("o"));
    private static final long batch$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("batch"));
    private static final long page_table$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("page_table"));
    private static final long table_stride$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("table_stride"));
    private static final long lengths$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("lengths"));
    private static final long max_length$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("max_length"));
    private static final long recent_index$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("recent_index"));
    private static final long pages$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("pages"));
    private static final long page_count$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("page_count"));
    private static final long recent$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("recent"));
    private static final long workspace$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("workspace"));
    private static final long workspace_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("workspace_bytes"));
    private static final long sink_positions$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("sink_positions"));

    private tarpon_kv_attend_args() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void queries(MemorySegment struct, int value) {
        struct.set(C_INT, queries$OFFSET, value);
    }

    public static void q(MemorySegment struct, long value) {
        struct.set(C_LONG, q$OFFSET, value);
    }

    public static void o(MemorySegment struct, long value) {
        struct.set(C_LONG, o$OFFSET, value);
    }

    public static void batch(MemorySegment struct, long value) {
        struct.set(C_LONG, batch$OFFSET, value);
    }

    public static void page_table(MemorySegment struct, long value) {
        struct.set(C_LONG, page_table$OFFSET, value);
    }

    public static void table_stride(MemorySegment struct, long value) {
        struct.set(C_LONG, table_stride$OFFSET, value);
    }

    public static void lengths(MemorySegment struct, long value) {
        struct.set(C_LONG, lengths$OFFSET, value);
    }

    public static void max_length(MemorySegment struct, long value) {
        struct.set(C_LONG, max_length$OFFSET, value);
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

    public static void workspace(MemorySegment struct, long value) {
        struct.set(C_LONG, workspace$OFFSET, value);
    }

    public static void workspace_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, workspace_bytes$OFFSET, value);
    }

    public static void sink_positions(MemorySegment struct, long value) {
        struct.set(C_LONG, sink_positions$OFFSET, value);
    }
}
