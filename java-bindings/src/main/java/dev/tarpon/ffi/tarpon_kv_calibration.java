package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_FLOAT;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_kv_calibration}: what a model brings along for its KV cache. */
public final class tarpon_kv_calibration {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_FLOAT.withName("norm_eps"),
                            C_POINTER.withName("k_mean"),
                            C_POINTER.withName("k_order"),
                            C_POINTER.withName("q_norm"),
                            C_POINTER.withName("k_norm"))
                    .withName("tarpon_kv_calibration");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long norm_eps$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("norm_eps"));
    private static final long k_mean$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("k_mean"));
    private static final long k_order$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("k_order"));
    private static final long q_norm$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("q_norm"));
    private static final long k_norm$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("k_norm"));

    private tarpon_kv_calibration() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void norm_eps(MemorySegment struct, float value) {
        struct.set(C_FLOAT, norm_eps$OFFSET, value);
    }

    public static void k_mean(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, k_mean$OFFSET, value);
    }

    public static void k_order(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, k_order$OFFSET, value);
    }

    public static void q_norm(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, q_norm$OFFSET, value);
    }

    public static void k_norm(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, k_norm$OFFSET, value);
    }
}
