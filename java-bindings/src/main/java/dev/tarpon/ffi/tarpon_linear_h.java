package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;
import static dev.tarpon.ffi.tarpon_h.downcall;
import static dev.tarpon.ffi.tarpon_h.unexpected;
import static dev.tarpon.ffi.tarpon_h.withLongAddresses;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * The linear layer of tarpon.h, bound as {@link tarpon_h} is; its host functions on weights are in
 * {@link tarpon_weights_h}.
 *
 * <p>Internal to Tarpon; programs use {@code dev.tarpon.QuantizedLinear}.
 */
public final class tarpon_linear_h {
    public static final int TARPON_WEIGHT_INT4 = 0;
    public static final int TARPON_WEIGHT_INT8 = 1;
    public static final int TARPON_WEIGHT_FP8_E4M3 = 2;
    public static final int TARPON_ZERO_SYMMETRIC = 0;
    public static final int TARPON_ZERO_INTEGER = 1;
    public static final int TARPON_ZERO_FLOAT = 2;
    public static final int TARPON_SCALE_F16 = 0;
    public static final int TARPON_SCALE_BF16 = 1;
    public static final int TARPON_SCALE_F32 = 2;
    public static final int TARPON_SPARSITY_NONE = 0;
    public static final int TARPON_SPARSITY_2_4 = 1;
    public static final int TARPON_LINEAR_FAST = 0;
    public static final int TARPON_LINEAR_DETERMINISTIC = 1;
    public static final int TARPON_LAYOUT_PLAIN = 0;
    public static final int TARPON_LAYOUT_MARLIN = 1;
    public static final int TARPON_LAYOUT_GPTQ = 2;
    public static final int TARPON_LAYOUT_GPTQ_V2 = 3;
    public static final int TARPON_LAYOUT_AWQ = 4;
    public static final int TARPON_LAYOUT_GGUF_Q4_0 = 5;
    public static final int TARPON_LAYOUT_GGUF_Q4_1 = 6;
    public static final int TARPON_LAYOUT_GGUF_Q8_0 = 7;
    public static final int TARPON_LAYOUT_GGUF_Q4_K = 8;
    public static final int TARPON_ARITHMETIC_EXACT = 0;
    public static final int TARPON_ARITHMETIC_INT8_ACTIVATIONS = 1;

    private tarpon_linear_h() {}

    /**
     * {@code tarpon_status tarpon_linear_create(tarpon_device *device, const tarpon_linear_desc
     * *desc, const tarpon_linear_weights *weights, tarpon_linear **out_linear)}.
     */
    public static int tarpon_linear_create(
            MemorySegment device,
            MemorySegment desc,
            MemorySegment weights,
            MemorySegment out_linear) {
        try {
            return (int) tarpon_linear_create.HANDLE.invokeExact(device, desc, weights, out_linear);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_create {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_create", DESC);
    }

    /**
     * {@code tarpon_status tarpon_linear_create_fused(tarpon_device *device, const
     * tarpon_linear_desc *desc, const tarpon_linear_weights *parts, int32_t part_count,
     * tarpon_linear **out_linear)}.
     */
    public static int tarpon_linear_create_fused(
            MemorySegment device,
            MemorySegment desc,
            MemorySegment parts,
            int part_count,
            MemorySegment out_linear) {
        try {
            return (int)
                    tarpon_linear_create_fused.HANDLE.invokeExact(
                            device, desc, parts, part_count, out_linear);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_create_fused {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_create_fused", DESC);
    }

    /**
     * {@code tarpon_status tarpon_linear_workspace_bytes(const tarpon_linear *linear, int64_t m,
     * size_t *out_bytes)}.
     */
    public static int tarpon_linear_workspace_bytes(
            MemorySegment linear, long m, MemorySegment out_bytes) {
        try {
            return (int) tarpon_linear_workspace_bytes.HANDLE.invokeExact(linear, m, out_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_workspace_bytes {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_workspace_bytes", DESC);
    }

    /**
     * {@code tarpon_status tarpon_linear_run(const tarpon_linear *linear, const void *x, void *y,
     * int64_t m, void *workspace, size_t workspace_bytes, tarpon_stream *stream)}.
     */
    public static int tarpon_linear_run(
            long linear,
            long x,
            long y,
            long m,
            long workspace,
            long workspace_bytes,
            long stream) {
        try {
            return (int)
                    tarpon_linear_run.HANDLE.invokeExact(
                            linear, x, y, m, workspace, workspace_bytes, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_run {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_POINTER, C_LONG,
                        C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_run", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_linear_run_residual(const tarpon_linear *linear, const void *x,
     * const void *residual, void *y, int64_t m, void *workspace, size_t workspace_bytes,
     * tarpon_stream *stream)}.
     */
    public static int tarpon_linear_run_residual(
            long linear,
            long x,
            long residual,
            long y,
            long m,
            long workspace,
            long workspace_bytes,
            long stream) {
        try {
            return (int)
                    tarpon_linear_run_residual.HANDLE.invokeExact(
                            linear, x, residual, y, m, workspace, workspace_bytes, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_run_residual {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_POINTER,
                        C_LONG, C_POINTER);
        static final MethodHandle HANDLE =
                downcall("tarpon_linear_run_residual", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_linear_get_info(const tarpon_linear *linear, tarpon_linear_info
     * *out_info)}.
     */
    public static int tarpon_linear_get_info(MemorySegment linear, MemorySegment out_info) {
        try {
            return (int) tarpon_linear_get_info.HANDLE.invokeExact(linear, out_info);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_get_info {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_get_info", DESC);
    }

    /** {@code void tarpon_linear_destroy(tarpon_linear *linear)}. */
    public static void tarpon_linear_destroy(MemorySegment linear) {
        try {
            tarpon_linear_destroy.HANDLE.invokeExact(linear);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_destroy {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_destroy", DESC);
    }
}
