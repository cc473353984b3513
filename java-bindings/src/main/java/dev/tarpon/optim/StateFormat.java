package dev.tarpon.optim;

import dev.tarpon.ffi.tarpon_optim_h;

/** How the states of a parameter are kept. */
public enum StateFormat {
    /** Four bytes an element. */
    F32(tarpon_optim_h.TARPON_STATE_F32),
    /** A byte an element by the dynamic maps, and a float for each block of 256. */
    DYNAMIC8(tarpon_optim_h.TARPON_STATE_DYNAMIC8),
    /**
     * Adam and AdamW only: E4M3 with dynamic-range expansion, two floats for each group of 128 (Xi
     * et al., "COAT: Compressing Optimizer states and Activation for Memory-Efficient FP8
     * Training").
     */
    FP8(tarpon_optim_h.TARPON_STATE_FP8);

    private final int id;

    StateFormat(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
