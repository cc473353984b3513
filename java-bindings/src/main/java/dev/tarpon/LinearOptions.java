package dev.tarpon;

import java.util.Objects;

/**
 * How a {@link QuantizedLinear} is made.
 *
 * @param activationDtype the type of x and y: F16, BF16, and on the CPU F32
 * @param variant the kernel to use, by its name; null lets the library choose
 * @param arithmetic exact, or with activations rounded to 8 bits
 * @param mode fast, or batch-invariant
 * @param sparsity a pattern of zeros that the weights have, checked at create
 */
public record LinearOptions(
        DType activationDtype,
        String variant,
        LinearArithmetic arithmetic,
        LinearMode mode,
        Sparsity sparsity) {
    public LinearOptions {
        Objects.requireNonNull(activationDtype, "activationDtype");
        Objects.requireNonNull(arithmetic, "arithmetic");
        Objects.requireNonNull(mode, "mode");
        Objects.requireNonNull(sparsity, "sparsity");
    }

    /** Dense weights in the fast mode. */
    public LinearOptions(DType activationDtype, String variant, LinearArithmetic arithmetic) {
        this(activationDtype, variant, arithmetic, LinearMode.FAST, Sparsity.NONE);
    }

    /** Exact arithmetic, by the kernel of this name. */
    public LinearOptions(DType activationDtype, String variant) {
        this(activationDtype, variant, LinearArithmetic.EXACT);
    }

    /** Exact arithmetic; the library chooses the kernel. */
    public LinearOptions(DType activationDtype) {
        this(activationDtype, null);
    }

    /** The same with another mode. */
    public LinearOptions withMode(LinearMode newMode) {
        return new LinearOptions(activationDtype, variant, arithmetic, newMode, sparsity);
    }

    /** The same with another pattern of zeros. */
    public LinearOptions withSparsity(Sparsity newSparsity) {
        return new LinearOptions(activationDtype, variant, arithmetic, mode, newSparsity);
    }
}
