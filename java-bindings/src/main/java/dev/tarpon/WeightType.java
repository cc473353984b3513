package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** What the codes of a quantised weight are. */
public enum WeightType {
    /** 0..15. */
    INT4(tarpon_linear_h.TARPON_WEIGHT_INT4, 4),
    /** 0..255. */
    INT8(tarpon_linear_h.TARPON_WEIGHT_INT8, 8),
    /** The bits of an e4m3 number (OCP "fn"), never NaN. */
    FP8_E4M3(tarpon_linear_h.TARPON_WEIGHT_FP8_E4M3, 8);

    private final int id;
    private final int bits;

    WeightType(int id, int bits) {
        this.id = id;
        this.bits = bits;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /** The bits of a code that carry information. */
    public int bits() {
        return bits;
    }
}
