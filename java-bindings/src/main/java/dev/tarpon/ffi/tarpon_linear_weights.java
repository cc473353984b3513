package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_linear_weights}: weights of a linear layer in host memory. */
public final class tarpon_linear_weights {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("layout"),
                            C_POINTER.withName("qweight"),
                            C_LONG.withName("qweight_bytes"),
                            C_POINTER.withName("scales"),
                            C_LONG.withName("scales_bytes"),
                            C_POINTER.withName("zeros"),
                            C_LONG.withName("zeros_bytes"),
                            C_POINTER.withName("bias"),
                            C_LONG.withName("bias_bytes"),
                            C_POINTER.withName("g_idx"),
                            C_LONG.withName("g_idx_bytes"),
                            C_LONG.withName("out_features"))
                    .withName("tarpon_linear_weights");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long layout$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("layout"));
    private static final long qweight$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("qweight"));
    private static final long qweight_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("qweight_bytes"));
    private static final long scales$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("scales"));
    private static final long scales_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("scales_bytes"));
    private static final long zeros$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("zeros"));
    private static final long zeros_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("zeros_bytes"));
    private static final long bias$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("bias"));
    private static final long bias_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("bias_bytes"));
    private static final long g_idx$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("g_idx"));
    private static final long g_idx_bytes$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("g_idx_bytes"));
    private static final long out_features$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("out_features"));

    private tarpon_linear_weights() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void layout(MemorySegment struct, int value) {
        struct.set(C_INT, layout$OFFSET, value);
    }

    public static void qweight(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, qweight$OFFSET, value);
    }

    public static void qweight_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, qweight_bytes$OFFSET, value);
    }

    public static void scales(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, scales$OFFSET, value);
    }

    public static void scales_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, scales_bytes$OFFSET, value);
    }

    public static void zeros(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, zeros$OFFSET, value);
    }

    public static void zeros_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, zeros_bytes$OFFSET, value);
    }

    public static void bias(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, bias$OFFSET, value);
    }

    public static void bias_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, bias_bytes$OFFSET, value);
    }

    public static void g_idx(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, g_idx$OFFSET, value);
    }

    public static void g_idx_bytes(MemorySegment struct, long value) {
        struct.set(C_LONG, g_idx_bytes$OFFSET, value);
    }

    public static void out_features(MemorySegment struct, long value) {
        struct.set(C_LONG, out_features$OFFSET, value);
    }
}
