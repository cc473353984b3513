package dev.tarpon;

import java.util.Objects;

/**
 * How a {@link QuantizedLinear} is made.
 *
 * @param activationDtype the type of x and y: F16, BF16, and on the CPU F32
 * @param variant the kernel to use, by its name; null lets the library choose
 */
public record LinearOptions(DType activationDtype, String variant) {
    public LinearOptions {
        Objects.requireNonNull(activationDtype, "activationDtype");
    }

    /** The library chooses the kernel. */
    public LinearOptions(DType activationDtype) {
        this(activationDtype, null);
    }
}
