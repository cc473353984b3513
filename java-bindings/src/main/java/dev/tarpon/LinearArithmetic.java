package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** What a {@link QuantizedLinear} computes with. */
public enum LinearArithmetic {
    /** Activations as they are given, sums in binary32. */
    EXACT(tarpon_linear_h.TARPON_ARITHMETIC_EXACT),
    /**
     * Activations rounded to 8 bits, with one scale for each row and 128 inputs, and integer sums:
     * faster on CPUs, for an error of about 0.7% of y. CPU only.
     */
    INT8_ACTIVATIONS(tarpon_linear_h.TARPON_ARITHMETIC_INT8_ACTIVATIONS);

    private final int id;

    LinearArithmetic(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
