package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;
import static dev.tarpon.ffi.tarpon_h.downcall;
import static dev.tarpon.ffi.tarpon_h.unexpected;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * The host functions of tarpon.h on weights of any format and layout, and the explanation of a
 * plan, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use {@code dev.tarpon.QuantizedWeights}.
 */
public final class tarpon_weights_h {
    private tarpon_weights_h() {}

    /**
     * {@code tarpon_status tarpon_linear_desc_for_layout(tarpon_weight_layout layout,
     * tarpon_linear_desc *out_desc)}.
     */
    public static int tarpon_linear_desc_for_layout(int layout, MemorySegment out_desc) {
        try {
            return (int) tarpon_linear_desc_for_layout.HANDLE.invokeExact(layout, out_desc);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_desc_for_layout {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_desc_for_layout", DESC);
    }

    /**
     * {@code tarpon_status tarpon_weights_unpack(const tarpon_linear_desc *desc, const
     * tarpon_linear_weights *weights, uint8_t *out_codes, void *out_scales, void *out_zeros)}.
     */
    public static int tarpon_weights_unpack(
            MemorySegment desc,
            MemorySegment weights,
            MemorySegment out_codes,
            MemorySegment out_scales,
            MemorySegment out_zeros) {
        try {
            return (int)
                    tarpon_weights_unpack.HANDLE.invokeExact(
                            desc, weights, out_codes, out_scales, out_zeros);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_weights_unpack {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_weights_unpack", DESC);
    }

    /**
     * {@code tarpon_status tarpon_weights_dequantize(const tarpon_linear_desc *desc, const
     * tarpon_linear_weights *weights, float *out_weight)}.
     */
    public static int tarpon_weights_dequantize(
            MemorySegment desc, MemorySegment weights, MemorySegment out_weight) {
        try {
            return (int) tarpon_weights_dequantize.HANDLE.invokeExact(desc, weights, out_weight);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_weights_dequantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_weights_dequantize", DESC);
    }

    /**
     * {@code tarpon_status tarpon_weights_quantize(const tarpon_linear_desc *desc, const void
     * *weight, tarpon_dtype weight_dtype, uint8_t *out_codes, void *out_scales, void *out_zeros)}.
     */
    public static int tarpon_weights_quantize(
            MemorySegment desc,
            MemorySegment weight,
            int weight_dtype,
            MemorySegment out_codes,
            MemorySegment out_scales,
            MemorySegment out_zeros) {
        try {
            return (int)
                    tarpon_weights_quantize.HANDLE.invokeExact(
                            desc, weight, weight_dtype, out_codes, out_scales, out_zeros);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_weights_quantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_weights_quantize", DESC);
    }

    /**
     * {@code tarpon_status tarpon_prune_2_4(const void *weight, tarpon_dtype weight_dtype, int64_t
     * n, int64_t k, void *out_weight)}.
     */
    public static int tarpon_prune_2_4(
            MemorySegment weight, int weight_dtype, long n, long k, MemorySegment out_weight) {
        try {
            return (int)
                    tarpon_prune_2_4.HANDLE.invokeExact(weight, weight_dtype, n, k, out_weight);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_prune_2_4 {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_INT, C_LONG, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_prune_2_4", DESC);
    }

    /**
     * {@code tarpon_status tarpon_linear_explain(const tarpon_linear_desc *desc, int64_t m, int32_t
     * compute_capability, int32_t processor_count, char *out_text, size_t capacity_bytes, size_t
     * *out_bytes)}.
     */
    public static int tarpon_linear_explain(
            MemorySegment desc,
            long m,
            int compute_capability,
            int processor_count,
            MemorySegment out_text,
            long capacity_bytes,
            MemorySegment out_bytes) {
        try {
            return (int)
                    tarpon_linear_explain.HANDLE.invokeExact(
                            desc,
                            m,
                            compute_capability,
                            processor_count,
                            out_text,
                            capacity_bytes,
                            out_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_linear_explain {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_LONG, C_INT, C_INT, C_POINTER, C_LONG, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_linear_explain", DESC);
    }
}
