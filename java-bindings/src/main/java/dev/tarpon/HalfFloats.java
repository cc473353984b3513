package dev.tarpon;

/**
 * Conversions between {@code float} and the two 16-bit floating-point types, which Java keeps in a
 * {@code short}. All conversions to 16 bits round to nearest, ties to even; NaN stays NaN.
 */
public final class HalfFloats {
    private HalfFloats() {}

    /** The nearest IEEE binary16; infinite from 65520 on. */
    public static short toFloat16(float value) {
        return Float.floatToFloat16(value);
    }

    /** The exact value of an IEEE binary16. */
    public static float fromFloat16(short bits) {
        return Float.float16ToFloat(bits);
    }

    /** The nearest bfloat16. */
    public static short toBFloat16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if (Float.isNaN(value)) {
            return (short) (bits >>> 16 | 0x40); // quiet, and not infinite if the payload is low
        }
        int lastKeptBit = bits >>> 16 & 1;
        return (short) (bits + 0x7fff + lastKeptBit >>> 16);
    }

    /** The exact value of a bfloat16. */
    public static float fromBFloat16(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }
}
