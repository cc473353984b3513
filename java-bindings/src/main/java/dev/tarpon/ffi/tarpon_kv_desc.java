package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_DOUBLE;
import static dev.tarpon.ffi.tarpon_h.C_INT;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_kv_desc}: shape, widths and rules of a KV cache. */
public final class tarpon_kv_desc {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("mode"),
                            C_INT.withName("head_dim"),
                            C_INT.withName("q_heads"),
                            C_INT.withName("kv_heads"),
                            C_INT.withName("page_tokens"),
                            C_INT.withName("k_bits"),
                            C_INT.withName("v_bits"),
                            C_INT.withName("sink_tokens"),
                            C_INT.withName("window_tokens"),
                            C_INT.withName("dtype"),
                            C_INT.withName("rope_dim"),
                            C_INT.withName("rope_layout"),
                            C_INT.withName("max_tokens"),
                            C_INT.withName("sliding_window"),
                            C_INT.withName("reserved"),
                            C_DOUBLE.withName("rope_theta"),
                            C_DOUBLE.withName("rope_scaling"),
                            C_DOUBLE.withName("score_scale"),
                            C_DOUBLE.withName("softcap"))
                    .withName("tarpon_kv_desc");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long mode$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("mode"));
    private static final long head_dim$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("head_dim"));
    private static final long q_heads$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("q_heads"));
    private static final long kv_heads$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("kv_heads"));
    private static final long page_tokens$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("page_tokens"));
    private static final long k_bits$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("k_bits"));
    private static final long v_bits$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("v_bits"));
    private static final long sink_tokens$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("sink_tokens"));
    private static final long window_tokens$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("window_tokens"));
    private static final long dtype$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("dtype"));
    private static final long rope_dim$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("rope_dim"));
    private static final long rope_layout$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("rope_layout"));
    private static final long max_tokens$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("max_tokens"));
    private static final long sliding_window$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("sliding_window"));
    private static final long rope_theta$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("rope_theta"));
    private static final long rope_scaling$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("rope_scaling"));
    private static final long score_scale$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("score_scale"));
    private static final long softcap$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("softcap"));

    private tarpon_kv_desc() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void mode(MemorySegment struct, int value) {
        struct.set(C_INT, mode$OFFSET, value);
    }

    public static void head_dim(MemorySegment struct, int value) {
        struct.set(C_INT, head_dim$OFFSET, value);
    }

    public static void q_heads(MemorySegment struct, int value) {
        struct.set(C_INT, q_heads$OFFSET, value);
    }

    public static void kv_heads(MemorySegment struct, int value) {
        struct.set(C_INT, kv_heads$OFFSET, value);
    }

    public static void page_tokens(MemorySegment struct, int value) {
        struct.set(C_INT, page_tokens$OFFSET, value);
    }

    public static void k_bits(MemorySegment struct, int value) {
        struct.set(C_INT, k_bits$OFFSET, value);
    }

    public static void v_bits(MemorySegment struct, int value) {
        struct.set(C_INT, v_bits$OFFSET, value);
    }

    public static void sink_tokens(MemorySegment struct, int value) {
        struct.set(C_INT, sink_tokens$OFFSET, value);
    }

    public static void window_tokens(MemorySegment struct, int value) {
        struct.set(C_INT, window_tokens$OFFSET, value);
    }

    public static void dtype(MemorySegment struct, int value) {
        struct.set(C_INT, dtype$OFFSET, value);
    }

    public static void rope_dim(MemorySegment struct, int value) {
        struct.set(C_INT, rope_dim$OFFSET, value);
    }

    public static void rope_layout(MemorySegment struct, int value) {
        struct.set(C_INT, rope_layout$OFFSET, value);
    }

    public static void max_tokens(MemorySegment struct, int value) {
        struct.set(C_INT, max_tokens$OFFSET, value);
    }

    public static void sliding_window(MemorySegment struct, int value) {
        struct.set(C_INT, sliding_window$OFFSET, value);
    }

    public static void rope_theta(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, rope_theta$OFFSET, value);
    }

    public static void rope_scaling(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, rope_scaling$OFFSET, value);
    }

    public static void score_scale(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, score_scale$OFFSET, value);
    }

    public static void softcap(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, softcap$OFFSET, value);
    }
}
