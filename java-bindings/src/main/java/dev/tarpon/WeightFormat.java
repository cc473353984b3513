package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

import java.util.Objects;

/**
 * How the weights of a linear layer are quantised.
 *
 * @param weightType the codes
 * @param zeroType how a weight is made of its code; FP8_E4M3 is SYMMETRIC
 * @param scaleType the type of scales and minimums: F16, BF16 or F32
 * @param groupSize the input features that share a scale: 32, 64, 128, or -1 for all of them
 */
public record WeightFormat(
        WeightType weightType, ZeroType zeroType, DType scaleType, int groupSize) {
    /** Checks the types; the library is the judge of group sizes. */
    public WeightFormat {
        Objects.requireNonNull(weightType, "weightType");
        Objects.requireNonNull(zeroType, "zeroType");
        scaleTypeId(Objects.requireNonNull(scaleType, "scaleType"));
        if (weightType == WeightType.FP8_E4M3 && zeroType != ZeroType.SYMMETRIC) {
            throw new IllegalArgumentException(
                    "FP8_E4M3 weights are SYMMETRIC, not %s".formatted(zeroType));
        }
    }

    /** MARLIN's own: 4 bits, symmetric, scales in F16. */
    public static WeightFormat marlin(int groupSize) {
        return new WeightFormat(WeightType.INT4, ZeroType.SYMMETRIC, DType.F16, groupSize);
    }

    /** Whether MARLIN's order can hold it. */
    public boolean isMarlin() {
        return equals(marlin(groupSize));
    }

    /** The number of scales of each output feature: ceil(inFeatures / groupSize), or 1. */
    public long groups(long inFeatures) {
        return groupSize == -1 ? 1 : Math.ceilDiv(inFeatures, (long) groupSize);
    }

    /** Bytes of one zero point or minimum; 0 if there are none. */
    int zeroBytes() {
        return switch (zeroType) {
            case SYMMETRIC -> 0;
            case INTEGER -> 1;
            case FLOAT -> scaleType.bytes();
        };
    }

    int scaleTypeId() {
        return scaleTypeId(scaleType);
    }

    private static int scaleTypeId(DType type) {
        return switch (type) {
            case F16 -> tarpon_linear_h.TARPON_SCALE_F16;
            case BF16 -> tarpon_linear_h.TARPON_SCALE_BF16;
            case F32 -> tarpon_linear_h.TARPON_SCALE_F32;
            case U8, I32 ->
                    throw new IllegalArgumentException(
                            "scaleType is %s; scales are F16, BF16 or F32".formatted(type));
        };
    }

    /** Such as "INT4 INTEGER, scales F16, groups of 128". */
    @Override
    public String toString() {
        return "%s %s, scales %s, groups of %s"
                .formatted(weightType, zeroType, scaleType, groupSize == -1 ? "all" : groupSize);
    }
}
