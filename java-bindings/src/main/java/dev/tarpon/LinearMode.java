package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** What y may depend on beside x and W. Both modes give the same bits every time on one device. */
public enum LinearMode {
    /** The fastest order of sums for each number of rows. */
    FAST(tarpon_linear_h.TARPON_LINEAR_FAST),
    /**
     * Batch-invariant: a row of y has the same bits whatever the other rows are and however many.
     */
    DETERMINISTIC(tarpon_linear_h.TARPON_LINEAR_DETERMINISTIC);

    private final int id;

    LinearMode(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
