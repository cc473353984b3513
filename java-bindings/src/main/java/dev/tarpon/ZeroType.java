package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** How a weight is made of its code and the scale of its group. */
public enum ZeroType {
    /** (code - 8) * scale, (code - 128) * scale, or e4m3(code) * scale. */
    SYMMETRIC(tarpon_linear_h.TARPON_ZERO_SYMMETRIC),
    /** (code - zero) * scale, with an 8-bit zero point for each group, in the range of codes. */
    INTEGER(tarpon_linear_h.TARPON_ZERO_INTEGER),
    /** code * scale + minimum, with a minimum of the scales' type for each group. */
    FLOAT(tarpon_linear_h.TARPON_ZERO_FLOAT);

    private final int id;

    ZeroType(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
