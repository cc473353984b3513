package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_linear_desc}: shape and types of a linear layer. */
public final class tarpon_linear_desc {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("weight_type"),
                            C_LONG.withName("in_features"),
                            C_LONG.withName("out_features"),
                            C_INT.withName("group_size"),
                            C_INT.withName("activation_dtype"),
                            C_POINTER.withName("variant"),
                            C_INT.withName("arithmetic"),
                            C_INT.withName("zero_type"),
                            C_INT.withName("scale_type"),
                            C_INT.withName("sparsity"),
                            C_INT.withName("mode"),
                            C_INT.withName("reserved"))
                    .withName("tarpon_linear_desc");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long weight_type$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("weight_type"));
    private static final long in_features$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("in_features"));
    private static final long out_features$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("out_features"));
    private static final long group_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("group_size"));
    private static final long activation_dtype$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("activation_dtype"));
    private static final long variant$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("variant"));
    private static final long arithmetic$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("arithmetic"));
    private static final long zero_type$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("zero_type"));
    private static final long scale_type$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("scale_type"));
    private static final long sparsity$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("sparsity"));
    private static final long mode$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("mode"));

    private tarpon_linear_desc() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static void weight_type(MemorySegment struct, int value) {
        struct.set(C_INT, weight_type$OFFSET, value);
    }

    public static void in_features(MemorySegment struct, long value) {
        struct.set(C_LONG, in_features$OFFSET, value);
    }

    public static void out_features(MemorySegment struct, long value) {
        struct.set(C_LONG, out_features$OFFSET, value);
    }

    public static void group_size(MemorySegment struct, int value) {
        struct.set(C_INT, group_size$OFFSET, value);
    }

    public static void activation_dtype(MemorySegment struct, int value) {
        struct.set(C_INT, activation_dtype$OFFSET, value);
    }

    public static void variant(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, variant$OFFSET, value);
    }

    public static void arithmetic(MemorySegment struct, int value) {
        struct.set(C_INT, arithmetic$OFFSET, value);
    }

    public static void zero_type(MemorySegment struct, int value) {
        struct.set(C_INT, zero_type$OFFSET, value);
    }

    public static void scale_type(MemorySegment struct, int value) {
        struct.set(C_INT, scale_type$OFFSET, value);
    }

    public static void sparsity(MemorySegment struct, int value) {
        struct.set(C_INT, sparsity$OFFSET, value);
    }

    public static void mode(MemorySegment struct, int value) {
        struct.set(C_INT, mode$OFFSET, value);
    }
}
