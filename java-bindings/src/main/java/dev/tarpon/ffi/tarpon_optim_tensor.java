package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_DOUBLE;
import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** {@code struct tarpon_optim_tensor}: one parameter of an optimizer's list. */
public final class tarpon_optim_tensor {
    /** The length of state and absmax. */
    public static final int SLOTS = 3;

    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("flags"),
                            C_INT.withName("param_dtype"),
                            C_INT.withName("grad_dtype"),
                            C_INT.withName("copy_dtype"),
                            C_INT.withName("state_format"),
                            C_LONG.withName("n"),
                            C_LONG.withName("columns"),
                            C_DOUBLE.withName("lr_factor"),
                            C_DOUBLE.withName("decay_factor"),
                            C_POINTER.withName("param"),
                            C_POINTER.withName("grad"),
                            C_POINTER.withName("copy"),
                            MemoryLayout.sequenceLayout(SLOTS, C_POINTER).withName("state"),
                            MemoryLayout.sequenceLayout(SLOTS, C_POINTER).withName("absmax"))
                    .withName("tarpon_optim_tensor");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long flags$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("flags"));
    private static final long param_dtype$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("param_dtype"));
    private static final long grad_dtype$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("grad_dtype"));
    private static final long copy_dtype$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("copy_dtype"));
    private static final long state_format$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("state_format"));
    private static final long n$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("n"));
    private static final long columns$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("columns"));
    private static final long lr_factor$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("lr_factor"));
    private static final long decay_factor$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("decay_factor"));
    private static final long param$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("param"));
    private static final long grad$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("grad"));
    private static final long copy$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("copy"));
    private static final long state$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("state"));
    private static final long absmax$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("absmax"));

    private tarpon_optim_tensor() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    /** An array of zeroed structs with their struct_size set. */
    public static MemorySegment allocateArray(long count, SegmentAllocator allocator) {
        MemorySegment array = allocator.allocate(LAYOUT, count).fill((byte) 0);
        array.elements(LAYOUT)
                .forEach(struct -> struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize()));
        return array;
    }

    public static void flags(MemorySegment struct, int value) {
        struct.set(C_INT, flags$OFFSET, value);
    }

    public static void param_dtype(MemorySegment struct, int value) {
        struct.set(C_INT, param_dtype$OFFSET, value);
    }

    public static void grad_dtype(MemorySegment struct, int value) {
        struct.set(C_INT, grad_dtype$OFFSET, value);
    }

    public static void copy_dtype(MemorySegment struct, int value) {
        struct.set(C_INT, copy_dtype$OFFSET, value);
    }

    public static void state_format(MemorySegment struct, int value) {
        struct.set(C_INT, state_format$OFFSET, value);
    }

    public static void n(MemorySegment struct, long value) {
        struct.set(C_LONG, n$OFFSET, value);
    }

    public static void columns(MemorySegment struct, long value) {
        struct.set(C_LONG, columns$OFFSET, value);
    }

    public static void lr_factor(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, lr_factor$OFFSET, value);
    }

    public static void decay_factor(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, decay_factor$OFFSET, value);
    }

    public static void param(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, param$OFFSET, value);
    }

    public static void grad(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, grad$OFFSET, value);
    }

    public static void copy(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, copy$OFFSET, value);
    }

    public static void state(MemorySegment struct, long index, MemorySegment value) {
        struct.set(C_POINTER, state$OFFSET + index * C_POINTER.byteSize(), value);
    }

    public static void absmax(MemorySegment struct, long index, MemorySegment value) {
        struct.set(C_POINTER, absmax$OFFSET + index * C_POINTER.byteSize(), value);
    }
}
