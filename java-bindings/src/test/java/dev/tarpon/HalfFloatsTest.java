package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.math.BigDecimal;
import java.util.Random;

/** The conversions, each against its definition. */
class HalfFloatsTest {
    @Test
    void everyBfloat16SurvivesARoundTrip() {
        for (int bits = 0; bits <= 0xffff; bits++) {
            float value = HalfFloats.fromBFloat16((short) bits);
            if (Float.isNaN(value)) {
                assertTrue(
                        Float.isNaN(HalfFloats.fromBFloat16(HalfFloats.toBFloat16(value))),
                        Integer.toHexString(bits));
            } else {
                assertEquals((short) bits, HalfFloats.toBFloat16(value), Integer.toHexString(bits));
            }
        }
    }

    @Test
    void bfloat16IsTheNearestAndEvenInTheMiddle() {
        Random random = new Random(5);
        for (int i = 0; i < 200_000; i++) {
            int bits = random.nextInt();
            // Every fourth value lies in the middle between two bfloat16.
            float value = Float.intBitsToFloat(i % 4 == 0 ? bits & ~0xffff | 0x8000 : bits);
            if (Math.abs(value) < 0x1.fep127f) { // not NaN, and it has neighbours
                checkNearest(value);
            }
        }
    }

    private static void checkNearest(float value) {
        int low = Float.floatToRawIntBits(value) & ~0xffff; // towards zero
        BigDecimal exact = new BigDecimal(value);
        BigDecimal down = exact.subtract(new BigDecimal(Float.intBitsToFloat(low))).abs();
        BigDecimal up = exact.subtract(new BigDecimal(Float.intBitsToFloat(low + 0x10000))).abs();
        int comparison = down.compareTo(up);
        boolean lowIsEven = (low & 0x10000) == 0;
        int nearest = comparison < 0 || comparison == 0 && lowIsEven ? low : low + 0x10000;
        assertEquals((short) (nearest >>> 16), HalfFloats.toBFloat16(value), () -> "" + value);
    }

    @Test
    void nanStaysNan() {
        for (int bits : new int[] {0x7f800001, 0xff800001, 0x7fffffff, 0x7fc00000}) {
            float nan = Float.intBitsToFloat(bits);
            assertTrue(Float.isNaN(HalfFloats.fromBFloat16(HalfFloats.toBFloat16(nan))));
            assertTrue(Float.isNaN(HalfFloats.fromFloat16(HalfFloats.toFloat16(nan))));
        }
    }

    @Test
    void rangesEndInInfinity() {
        assertEquals(65504, HalfFloats.fromFloat16(HalfFloats.toFloat16(65519)));
        assertEquals(Float.POSITIVE_INFINITY, HalfFloats.fromFloat16(HalfFloats.toFloat16(65520)));
        assertEquals(
                Float.NEGATIVE_INFINITY,
                HalfFloats.fromBFloat16(HalfFloats.toBFloat16(-Float.MAX_VALUE)));
    }
}
