package dev.tarpon.ffi;

import static dev.tarpon.ffi.tarpon_h.C_INT;
import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;
import static dev.tarpon.ffi.tarpon_h.downcall;
import static dev.tarpon.ffi.tarpon_h.unexpected;
import static dev.tarpon.ffi.tarpon_h.withLongAddresses;

import java.lang.foreign.FunctionDescriptor;
import java.lang.invoke.MethodHandle;

/**
 * The Hadamard transform of tarpon.h, bound as {@link tarpon_h} is.
 *
 * <p>Internal to Tarpon; programs use {@code dev.tarpon.Hadamard}.
 */
public final class tarpon_hadamard_h {
    private tarpon_hadamard_h() {}

    /**
     * {@code tarpon_status tarpon_hadamard_run(tarpon_device *device, const void *x, void *y,
     * int64_t rows, int64_t n, tarpon_dtype dtype, tarpon_stream *stream)}.
     */
    public static int tarpon_hadamard_run(
            long device, long x, long y, long rows, long n, int dtype, long stream) {
        try {
            return (int)
                    tarpon_hadamard_run.HANDLE.invokeExact(device, x, y, rows, n, dtype, stream);
        } catch (Throwable throwable) {
            throw unexpected(throwable);
        }
    }

    static final class tarpon_hadamard_run {
        static final FunctionDescriptor DESC =
                FunctionDescriptor.of(
                        C_INT, C_POINTER, C_POINTER, C_POINTER, C_LONG, C_LONG, C_INT, C_POINTER);
        static final MethodHandle HANDLE = downcall("tarpon_hadamard_run", withLongAddresses(DESC));
    }
}
