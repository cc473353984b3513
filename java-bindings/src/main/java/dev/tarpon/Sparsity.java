package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** Which pattern of zeros a kernel may rely on. */
public enum Sparsity {
    /** None. */
    NONE(tarpon_linear_h.TARPON_SPARSITY_NONE),
    /**
     * 2:4: of each four weights of an output feature, inputs 4i..4i+3, at most two are not zero.
     * INT4, SYMMETRIC weights only. See {@link QuantizedWeights#pruneTwoOfFour}.
     */
    TWO_OF_FOUR(tarpon_linear_h.TARPON_SPARSITY_2_4);

    private final int id;

    Sparsity(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
