package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

/** The type of a tensor's elements. */
public enum DType {
    /** IEEE 754 binary32. */
    F32(tarpon_h.TARPON_F32, 4),
    /** IEEE 754 binary16. */
    F16(tarpon_h.TARPON_F16, 2),
    /** bfloat16: the upper half of binary32. */
    BF16(tarpon_h.TARPON_BF16, 2),
    /** Unsigned 8-bit integer. */
    U8(tarpon_h.TARPON_U8, 1),
    /** Signed 32-bit integer. */
    I32(tarpon_h.TARPON_I32, 4);

    private final int id;
    private final int bytes;

    DType(int id, int bytes) {
        this.id = id;
        this.bytes = bytes;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /** The size of one element, which is also its alignment. */
    public int bytes() {
        return bytes;
    }
}
