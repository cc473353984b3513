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

/** {@code struct tarpon_optim_step_args}: the numbers of a step. */
public final class tarpon_optim_step_args {
    private static final GroupLayout LAYOUT =
            MemoryLayout.structLayout(
                            C_INT.withName("struct_size"),
                            C_INT.withName("flags"),
                            C_DOUBLE.withName("lr"),
                            C_DOUBLE.withName("beta1"),
                            C_DOUBLE.withName("beta2"),
                            C_DOUBLE.withName("beta3"),
                            C_DOUBLE.withName("alpha"),
                            C_DOUBLE.withName("momentum"),
                            C_DOUBLE.withName("eps"),
                            C_DOUBLE.withName("weight_decay"),
                            C_DOUBLE.withName("trust_coefficient"),
                            C_DOUBLE.withName("gamma"),
                            C_DOUBLE.withName("hessian_scale"),
                            C_DOUBLE.withName("grad_multiplier"),
                            C_DOUBLE.withName("max_grad_norm"),
                            C_LONG.withName("seed"),
                            C_POINTER.withName("device_lr"),
                            C_POINTER.withName("device_grad_multiplier"))
                    .withName("tarpon_optim_step_args");

    private static final long struct_size$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("struct_size"));
    private static final long flags$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("flags"));
    private static final long lr$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("lr"));
    private static final long beta1$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("beta1"));
    private static final long beta2$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("beta2"));
    private static final long beta3$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("beta3"));
    private static final long alpha$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("alpha"));
    private static final long momentum$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("momentum"));
    private static final long eps$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("eps"));
    private static final long weight_decay$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("weight_decay"));
    private static final long trust_coefficient$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("trust_coefficient"));
    private static final long gamma$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("gamma"));
    private static final long hessian_scale$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("hessian_scale"));
    private static final long grad_multiplier$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("grad_multiplier"));
    private static final long max_grad_norm$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("max_grad_norm"));
    private static final long seed$OFFSET = LAYOUT.byteOffset(PathElement.groupElement("seed"));
    private static final long device_lr$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("device_lr"));
    private static final long device_grad_multiplier$OFFSET =
            LAYOUT.byteOffset(PathElement.groupElement("device_grad_multiplier"));

    private tarpon_optim_step_args() {}

    public static GroupLayout layout() {
        return LAYOUT;
    }

    /** A zeroed struct with its struct_size set. */
    public static MemorySegment allocate(SegmentAllocator allocator) {
        MemorySegment struct = allocator.allocate(LAYOUT).fill((byte) 0);
        struct.set(C_INT, struct_size$OFFSET, (int) LAYOUT.byteSize());
        return struct;
    }

    public static int flags(MemorySegment struct) {
        return struct.get(C_INT, flags$OFFSET);
    }

    public static void flags(MemorySegment struct, int value) {
        struct.set(C_INT, flags$OFFSET, value);
    }

    public static double lr(MemorySegment struct) {
        return struct.get(C_DOUBLE, lr$OFFSET);
    }

    public static void lr(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, lr$OFFSET, value);
    }

    public static double beta1(MemorySegment struct) {
        return struct.get(C_DOUBLE, beta1$OFFSET);
    }

    public static void beta1(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, beta1$OFFSET, value);
    }

    public static double beta2(MemorySegment struct) {
        return struct.get(C_DOUBLE, beta2$OFFSET);
    }

    public static void beta2(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, beta2$OFFSET, value);
    }

    public static double beta3(MemorySegment struct) {
        return struct.get(C_DOUBLE, beta3$OFFSET);
    }

    public static void beta3(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, beta3$OFFSET, value);
    }

    public static double alpha(MemorySegment struct) {
        return struct.get(C_DOUBLE, alpha$OFFSET);
    }

    public static void alpha(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, alpha$OFFSET, value);
    }

    public static double momentum(MemorySegment struct) {
        return struct.get(C_DOUBLE, momentum$OFFSET);
    }

    public static void momentum(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, momentum$OFFSET, value);
    }

    public static double eps(MemorySegment struct) {
        return struct.get(C_DOUBLE, eps$OFFSET);
    }

    public static void eps(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, eps$OFFSET, value);
    }

    public static double weight_decay(MemorySegment struct) {
        return struct.get(C_DOUBLE, weight_decay$OFFSET);
    }

    public static void weight_decay(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, weight_decay$OFFSET, value);
    }

    public static double trust_coefficient(MemorySegment struct) {
        return struct.get(C_DOUBLE, trust_coefficient$OFFSET);
    }

    public static void trust_coefficient(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, trust_coefficient$OFFSET, value);
    }

    public static double gamma(MemorySegment struct) {
        return struct.get(C_DOUBLE, gamma$OFFSET);
    }

    public static void gamma(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, gamma$OFFSET, value);
    }

    public static double hessian_scale(MemorySegment struct) {
        return struct.get(C_DOUBLE, hessian_scale$OFFSET);
    }

    public static void hessian_scale(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, hessian_scale$OFFSET, value);
    }

    public static double grad_multiplier(MemorySegment struct) {
        return struct.get(C_DOUBLE, grad_multiplier$OFFSET);
    }

    public static void grad_multiplier(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, grad_multiplier$OFFSET, value);
    }

    public static double max_grad_norm(MemorySegment struct) {
        return struct.get(C_DOUBLE, max_grad_norm$OFFSET);
    }

    public static void max_grad_norm(MemorySegment struct, double value) {
        struct.set(C_DOUBLE, max_grad_norm$OFFSET, value);
    }

    public static long seed(MemorySegment struct) {
        return struct.get(C_LONG, seed$OFFSET);
    }

    public static void seed(MemorySegment struct, long value) {
        struct.set(C_LONG, seed$OFFSET, value);
    }

    public static void device_lr(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, device_lr$OFFSET, value);
    }

    public static void device_grad_multiplier(MemorySegment struct, MemorySegment value) {
        struct.set(C_POINTER, device_grad_multiplier$OFFSET, value);
    }
}
