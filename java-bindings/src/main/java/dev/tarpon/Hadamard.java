package dev.tarpon;

import dev.tarpon.ffi.tarpon_hadamard_h;

import java.util.Objects;

/**
 * The orthonormal Hadamard transform, which spreads outliers of a vector over all its elements
 * before it is quantised.
 *
 * <p>H is symmetric and its own inverse at every order n: H = B (x) S / sqrt(n), with S Sylvester's
 * matrix of a power of two and B a symmetric base matrix of order 1, 12, 20 or 28 (Paley's second
 * construction).
 */
public final class Hadamard {
    private Hadamard() {}

    /**
     * Queues y[r] = H x[r] for each row. Sums are in binary32 and rounded to the dtype once, so
     * that all devices give equal bits. Thread-safe.
     *
     * @param x [rows, n] in F32, F16 or BF16; leading dimensions count as rows; n is 2^k, 12 * 2^k,
     *     20 * 2^k or 28 * 2^k, and 2..32768
     * @param y of the same shape and dtype; may be x, or else must not overlap it
     * @throws IllegalArgumentException if shapes, dtypes or devices disagree, or x and y overlap
     * @throws IllegalStateException if one of the arguments is closed
     * @throws TarponException if the library reports a failure, such as an order n that has no
     *     kernel
     */
    public static void transform(Tensor x, Tensor y, Stream stream) {
        Operands.requireFloating("x", x);
        Operands.requireFloating("y", y);
        Objects.requireNonNull(stream, "stream");
        if (x.dtype() != y.dtype() || x.rows() != y.rows() || x.columns() != y.columns()) {
            throw new IllegalArgumentException(
                    "x and y differ in shape or dtype: x is %s, y is %s".formatted(x, y));
        }
        Device device = stream.device();
        Operands.requireDevice(device, "x", x);
        Operands.requireDevice(device, "y", y);
        Operands.acquire(x, y);
        try {
            if (x.address() != y.address()) {
                Operands.requireDisjoint("x", x, "y", y);
            }
            StreamHandle handle = stream.handle();
            synchronized (handle) {
                long nativeStream = handle.requireOpen();
                TarponException.check(
                        tarpon_hadamard_h.tarpon_hadamard_run(
                                device.handle().address(),
                                x.address(),
                                y.address(),
                                x.rows(),
                                x.columns(),
                                x.dtype().id(),
                                nativeStream));
            }
            Operands.usedOn(stream, x, y);
        } finally {
            Operands.release(x, y);
        }
    }
}
