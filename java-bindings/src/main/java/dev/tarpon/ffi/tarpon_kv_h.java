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
 * The KV cache of tarpon.h, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use the package {@code dev.tarpon.kv}.
 */
public final class tarpon_kv_h {
    public static final int TARPON_KV_MODE_TARPON = 0;
    public static final int TARPON_KV_MODE_ROTATEKV = 1;

    public static final int TARPON_ROPE_HALF = 0;
    public static final int TARPON_ROPE_INTERLEAVED = 1;

    private tarpon_kv_h() {}

    /**
     * {@code tarpon_status tarpon_kv_create(tarpon_device *device, const tarpon_kv_desc *desc,
     * const tarpon_kv_calibration *calibration, tarpon_kv **out_kv)}.
     */
    public static int tarpon_kv_create(
            MemorySegment device,
            MemorySegment desc,
            MemorySegment calibration,
            MemorySegment out_kv) {
        try {
            return (int) tarpon_kv_create.HANDLE.invokeExact(device, desc, calibration, out_kv);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_create {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_create", DESC);
    }

    /** {@code tarpon_status tarpon_kv_get_info(const tarpon_kv *kv, tarpon_kv_info *out_info)}. */
    public static int tarpon_kv_get_info(MemorySegment kv, MemorySegment out_info) {
        try {
            return (int) tarpon_kv_get_info.HANDLE.invokeExact(kv, out_info);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_get_info {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_get_info", DESC);
    }

    /**
     * {@code tarpon_status tarpon_kv_workspace_bytes(const tarpon_kv *kv, int64_t batch, int32_t
     * queries, int64_t max_length, size_t *out_bytes)}.
     */
    public static int tarpon_kv_workspace_bytes(
            MemorySegment kv, long batch, int queries, long max_length, MemorySegment out_bytes) {
        try {
            return (int)
                    tarpon_kv_workspace_bytes.HANDLE.invokeExact(
                            kv, batch, queries, max_length, out_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_workspace_bytes {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_LONG, C_INT, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_workspace_bytes", DESC);
    }

    /**
     * {@code tarpon_status tarpon_kv_append(const tarpon_kv *kv, const tarpon_kv_append_args *args,
     * tarpon_stream *stream)}.
     */
    public static int tarpon_kv_append(long kv, long args, long stream) {
        try {
            return (int) tarpon_kv_append.HANDLE.invokeExact(kv, args, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_append {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_append", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_kv_attend(const tarpon_kv *kv, const tarpon_kv_attend_args *args,
     * tarpon_stream *stream)}.
     */
    public static int tarpon_kv_attend(long kv, long args, long stream) {
        try {
            return (int) tarpon_kv_attend.HANDLE.invokeExact(kv, args, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_attend {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_attend", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_kv_dequantize(const tarpon_kv *kv, const
     * tarpon_kv_dequantize_args *args, tarpon_stream *stream)}.
     */
    public static int tarpon_kv_dequantize(long kv, long args, long stream) {
        try {
            return (int) tarpon_kv_dequantize.HANDLE.invokeExact(kv, args, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_dequantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE =
                downcall("tarpon_kv_dequantize", withLongAddresses(DESC));
    }

    /** {@code void tarpon_kv_destroy(tarpon_kv *kv)}. */
    public static void tarpon_kv_destroy(MemorySegment kv) {
        try {
            tarpon_kv_destroy.HANDLE.invokeExact(kv);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_kv_destroy {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_kv_destroy", DESC);
    }
}
