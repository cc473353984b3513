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
 * Block-wise quantisation of tarpon.h, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use {@code dev.tarpon.BlockwiseQuantizer}.
 */
public final class tarpon_blockwise_h {
    public static final int TARPON_MAP_DYNAMIC_SIGNED = 0;
    public static final int TARPON_MAP_DYNAMIC_UNSIGNED = 1;
    public static final int TARPON_MAP_LINEAR_INT8 = 2;
    public static final int TARPON_MAP_FP8_E4M3 = 3;
    public static final int TARPON_MAP_DYNAMIC4 = 4;
    public static final int TARPON_MAP_NF4 = 5;

    private tarpon_blockwise_h() {}

    /** {@code tarpon_status tarpon_code_map_values(tarpon_code_map map, float out_values[256])}. */
    public static int tarpon_code_map_values(int map, MemorySegment out_values) {
        try {
            return (int) tarpon_code_map_values.HANDLE.invokeExact(map, out_values);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_code_map_values {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_code_map_values", DESC);
    }

    /**
     * {@code tarpon_status tarpon_blockwise_quantize(tarpon_device *device, const void *x,
     * tarpon_dtype dtype, int64_t n, tarpon_code_map map, int64_t block_size, uint8_t *codes, float
     * *absmax, tarpon_stream *stream)}.
     */
    public static int tarpon_blockwise_quantize(
            long device,
            long x,
            int dtype,
            long n,
            int map,
            long block_size,
            long codes,
            long absmax,
            long stream) {
        try {
            return (int)
                    tarpon_blockwise_quantize.HANDLE.invokeExact(
                            device, x, dtype, n, map, block_size, codes, absmax, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_blockwise_quantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_INT, C_LONG, C_INT, C_LONG, C_POINTER,
                        C_POINTER, C_POINTER);
        static final MethodHandle HANDLE =
                downcall("tarpon_blockwise_quantize", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_blockwise_dequantize(tarpon_device *device, const uint8_t *codes,
     * const float *absmax, int64_t n, tarpon_code_map map, int64_t block_size, void *y,
     * tarpon_dtype dtype, tarpon_stream *stream)}.
     */
    public static int tarpon_blockwise_dequantize(
            long device,
            long codes,
            long absmax,
            long n,
            int map,
            long block_size,
            long y,
            int dtype,
            long stream) {
        try {
            return (int)
                    tarpon_blockwise_dequantize.HANDLE.invokeExact(
                            device, codes, absmax, n, map, block_size, y, dtype, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_blockwise_dequantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_INT, C_LONG, C_POINTER,
                        C_INT, C_POINTER);
        static final MethodHandle HANDLE =
                downcall("tarpon_blockwise_dequantize", withLongAddresses(DESC));
    }
}
