package dev.tarpon;

import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_DYNAMIC4;
import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_DYNAMIC_SIGNED;
import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_DYNAMIC_UNSIGNED;
import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_FP8_E4M3;
import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_LINEAR_INT8;
import static dev.tarpon.ffi.tarpon_blockwise_h.TARPON_MAP_NF4;

import dev.tarpon.ffi.tarpon_blockwise_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Which value each code stands for, as a fraction of the block's absmax. */
public enum CodeMap {
    /** The dynamic tree map of 256 values; code 127 is 0. */
    DYNAMIC_SIGNED(TARPON_MAP_DYNAMIC_SIGNED, 8),
    /** Likewise for values that are not negative; code 0 is 0. Negative ones become 0. */
    DYNAMIC_UNSIGNED(TARPON_MAP_DYNAMIC_UNSIGNED, 8),
    /** Two's complement -127..127; value = code / 127. */
    LINEAR_INT8(TARPON_MAP_LINEAR_INT8, 8),
    /** 8-bit floating point; value = e4m3(code) / 448. */
    FP8_E4M3(TARPON_MAP_FP8_E4M3, 8),
    /** The signed dynamic map of 16 values; code 7 is 0. */
    DYNAMIC4(TARPON_MAP_DYNAMIC4, 4),
    /** NormalFloat4 (Dettmers et al., "QLoRA", section 3); code 7 is 0. */
    NF4(TARPON_MAP_NF4, 4);

    private final int id;
    private final int bits;

    CodeMap(int id, int bits) {
        this.id = id;
        this.bits = bits;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }

    /** Bits a code: 8 or 4. */
    public int bits() {
        return bits;
    }

    /** The value of each code, 256 or 16 of them; NaN for the NaN codes of FP8_E4M3. */
    public float[] codebook() {
        try (Arena arena = Arena.ofConfined()) {
            // The library fills 256, whatever the map.
            MemorySegment out = arena.allocate(ValueLayout.JAVA_FLOAT, 256);
            TarponException.check(tarpon_blockwise_h.tarpon_code_map_values(id, out));
            return out.asSlice(0, (long) Float.BYTES << bits).toArray(ValueLayout.JAVA_FLOAT);
        }
    }
}
