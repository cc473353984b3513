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
 * The optimizers of tarpon.h, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use the package {@code dev.tarpon.optim}.
 */
public final class tarpon_optim_h {
    public static final int TARPON_OPTIM_ADAM = 0;
    public static final int TARPON_OPTIM_ADAMW = 1;
    public static final int TARPON_OPTIM_SGD = 2;
    public static final int TARPON_OPTIM_RMSPROP = 3;
    public static final int TARPON_OPTIM_ADAGRAD = 4;
    public static final int TARPON_OPTIM_LION = 5;
    public static final int TARPON_OPTIM_ADEMAMIX = 6;
    public static final int TARPON_OPTIM_LAMB = 7;
    public static final int TARPON_OPTIM_LARS = 8;
    public static final int TARPON_OPTIM_ADABELIEF = 9;
    public static final int TARPON_OPTIM_SOPHIAG = 10;
    public static final int TARPON_OPTIM_SCALE = 11;

    public static final int TARPON_STATE_F32 = 0;
    public static final int TARPON_STATE_DYNAMIC8 = 1;
    public static final int TARPON_STATE_FP8 = 2;

    public static final int TARPON_OPTIM_MIN_QUANTIZED_ELEMS = 4096;

    public static final int TARPON_TENSOR_MOMENTUM = 1;

    public static final int TARPON_STEP_NESTEROV = 1;
    public static final int TARPON_STEP_SKIP_NONFINITE = 2;
    public static final int TARPON_STEP_STOCHASTIC_PARAMS = 4;
    public static final int TARPON_STEP_STOCHASTIC_STATES = 8;

    private tarpon_optim_h() {}

    /**
     * {@code tarpon_status tarpon_optim_state_bytes(tarpon_optim_rule rule, tarpon_state_format
     * format, int32_t flags, int64_t n, int32_t slot, size_t *out_state_bytes, size_t
     * *out_absmax_bytes)}.
     */
    public static int tarpon_optim_state_bytes(
            int rule,
            int format,
            int flags,
            long n,
            int slot,
            MemorySegment out_state_bytes,
            MemorySegment out_absmax_bytes) {
        try {
            return (int)
                    tarpon_optim_state_bytes.HANDLE.invokeExact(
                            rule, format, flags, n, slot, out_state_bytes, out_absmax_bytes);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_state_bytes {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_INT, C_INT, C_INT, C_LONG, C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_state_bytes", DESC);
    }

    /**
     * {@code tarpon_status tarpon_optim_default_args(tarpon_optim_rule rule, tarpon_optim_step_args
     * *out_args)}.
     */
    public static int tarpon_optim_default_args(int rule, MemorySegment out_args) {
        try {
            return (int) tarpon_optim_default_args.HANDLE.invokeExact(rule, out_args);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_default_args {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_default_args", DESC);
    }

    /**
     * {@code tarpon_status tarpon_optim_create(tarpon_device *device, const tarpon_optim_desc
     * *desc, tarpon_optim **out_optim)}.
     */
    public static int tarpon_optim_create(
            MemorySegment device, MemorySegment desc, MemorySegment out_optim) {
        try {
            return (int) tarpon_optim_create.HANDLE.invokeExact(device, desc, out_optim);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_create {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_create", DESC);
    }

    /**
     * {@code tarpon_status tarpon_optim_step(tarpon_optim *optim, const tarpon_optim_step_args
     * *args, tarpon_stream *stream)}.
     */
    public static int tarpon_optim_step(long optim, long args, long stream) {
        try {
            return (int) tarpon_optim_step.HANDLE.invokeExact(optim, args, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_step {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_step", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_optim_refresh_hessian(tarpon_optim *optim, const
     * tarpon_optim_step_args *args, tarpon_stream *stream)}.
     */
    public static int tarpon_optim_refresh_hessian(long optim, long args, long stream) {
        try {
            return (int) tarpon_optim_refresh_hessian.HANDLE.invokeExact(optim, args, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_refresh_hessian {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE =
                downcall("tarpon_optim_refresh_hessian", withLongAddresses(DESC));
    }

    /**
     * {@code tarpon_status tarpon_optim_get_counters(const tarpon_optim *optim,
     * tarpon_optim_counters *out_counters, tarpon_stream *stream)}.
     */
    public static int tarpon_optim_get_counters(
            MemorySegment optim, MemorySegment out_counters, MemorySegment stream) {
        try {
            return (int) tarpon_optim_get_counters.HANDLE.invokeExact(optim, out_counters, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_get_counters {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_get_counters", DESC);
    }

    /**
     * {@code tarpon_status tarpon_optim_set_counters(tarpon_optim *optim, const
     * tarpon_optim_counters *counters, tarpon_stream *stream)}.
     */
    public static int tarpon_optim_set_counters(
            MemorySegment optim, MemorySegment counters, MemorySegment stream) {
        try {
            return (int) tarpon_optim_set_counters.HANDLE.invokeExact(optim, counters, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_set_counters {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_set_counters", DESC);
    }

    /**
     * {@code tarpon_status tarpon_optim_get_info(const tarpon_optim *optim, tarpon_optim_info
     * *out_info)}.
     */
    public static int tarpon_optim_get_info(MemorySegment optim, MemorySegment out_info) {
        try {
            return (int) tarpon_optim_get_info.HANDLE.invokeExact(optim, out_info);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_get_info {
        static final FunctionDescriptor DESC = FunctionDescriptor.of(C_INT, C_POINTER, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_get_info", DESC);
    }

    /** {@code void tarpon_optim_destroy(tarpon_optim *optim)}. */
    public static void tarpon_optim_destroy(MemorySegment optim) {
        try {
            tarpon_optim_destroy.HANDLE.invokeExact(optim);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_optim_destroy {
        static final FunctionDescriptor DESC = FunctionDescriptor.ofVoid(C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_optim_destroy", DESC);
    }
}
