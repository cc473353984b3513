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
 * The host functions of tarpon.h on weights, first those for 4-bit weights alone and then those for
 * any format and layout, and the explanation of a plan, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use {@code dev.tarpon.QuantizedWeights}.
 */
public final class tarpon_weights_h {
    private tarpon_weights_h() {}

    /**
     * {@code tarpon_status tarpon_w4_quantize(const void *weight, tarpon_dtype weight_dtype,
     * int64_t n, int64_t k, int32_t group_size, uint8_t *out_codes, uint16_t *out_scales)}.
     */
    public static int tarpon_w4_quantize(
            MemorySegment weight,
            int weight_dtype,
            long n,
            long k,
            int group_size,
            MemorySegment out_codes,
            MemorySegment out_scales) {
        try {
            return (int)
                    tarpon_w4_quantize.HANDLE.invokeExact(
                            weight, weight_dtype, n, k, group_size, out_codes, out_scales);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_w4_quantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_INT, C_LONG, C_LONG, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_w4_quantize", DESC);
    }

    /**
     * {@code tarpon_status tarpon_w4_dequantize(const uint8_t *codes, const uint16_t *scales,
     * int64_t n, int64_t k, int32_t group_size, float *out_weight)}.
     */
    public static int tarpon_w4_dequantize(
            MemorySegment codes,
            MemorySegment scales,
            long n,
            long k,
            int group_size,
            MemorySegment out_weight) {
        try {
            return (int)
                    tarpon_w4_dequantize.HANDLE.invokeExact(
                            codes, scales, n, k, group_size, out_weight);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_w4_dequantize {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_LONG, C_LONG, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_w4_dequantize", DESC);
    }

    /**
     * {@code tarpon_status tarpon_marlin_size(int64_t n, int64_t k, int32_t group_size, size_t
     * *out_qweight_bytes, size_t *out_scales_bytes)}.
     */
    public static int tarpon_marlin_size(
            long n,
            long k,
            int group_size,
            MemorySegment out_qweight_bytes,
            MemorySegment out_scales_bytes) {
        try {
            return (int)
                    tarpon_marlin_size.HANDLE.invokeExact(
                            n, k, group_size, out_qweight_bytes, out_scales_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_marlin_size {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_LONG, C_LONG, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_marlin_size", DESC);
    }

    /**
     * {@code tarpon_status tarpon_marlin_pack(const uint8_t *codes, const uint16_t *scales, int64_t
     * n, int64_t k, int32_t group_size, int32_t *out_qweight, uint16_t *out_scales_packed)}.
     */
    public static int tarpon_marlin_pack(
            MemorySegment codes,
            MemorySegment scales,
            long n,
            long k,
            int group_size,
            MemorySegment out_qweight,
            MemorySegment out_scales_packed) {
        try {
            return (int)
                    tarpon_marlin_pack.HANDLE.invokeExact(
                            codes, scales, n, k, group_size, out_qweight, out_scales_packed);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_marlin_pack {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_LONG, C_LONG, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_marlin_pack", DESC);
    }

    /**
     * {@code tarpon_status tarpon_marlin_unpack(const int32_t *qweight, const uint16_t
     * *scales_packed, int64_t n, int64_t k, int32_t group_size, uint8_t *out_codes, uint16_t
     * *out_scales)}.
     */
    public static int tarpon_marlin_unpack(
            MemorySegment qweight,
            MemorySegment scales_packed,
            long n,
            long k,
            int group_size,
            MemorySegment out_codes,
            MemorySegment out_scales) {
        try {
            return (int)
                    tarpon_marlin_unpack.HANDLE.invokeExact(
                            qweight, scales_packed, n, k, group_size, out_codes, out_scales);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_marlin_unpack {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_LONG, C_LONG, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_marlin_unpack", DESC);
    }

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
