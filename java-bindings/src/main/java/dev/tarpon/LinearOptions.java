package dev.tarpon;

import java.util.Objects;

/**
 * How a {@link QuantizedLinear} is made.
 *
 * @param activationDtype the type of x and y: F16, BF16, and on the CPU F32
 * @param variant the kernel to use, by its name; null lets the library choose
 * @param arithmetic exact, or with activations rounded to 8 bits
 */
public record LinearOptions(DType activationDtype, String variant, LinearArithmetic arithmetic) {
    public LinearOptions {
        Objects.requireNonNull(activationDtype, "activationDtype");
        Objects.requireNonNull(arithmetic, "arithmetic");
    }

    /** Exact arithmetic, by the kernel of this name. */
    public LinearOptions(DType activationDtype, String variant) {
        this(activationDtype, variant, LinearArithmetic.EXACT);
    }

    /** Exact arithmetic; the library chooses the kernel. */
    public LinearOptions(DType activationDtype) {
        this(activationDtype, null);
    }
}
