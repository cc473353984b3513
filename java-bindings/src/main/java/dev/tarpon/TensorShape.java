package dev.tarpon;

import java.util.Arrays;
import java.util.Objects;

/** The validated element type and dimensions of a tensor. Immutable. */
final class TensorShape {
    private final DType dtype;
    private final long[] dimensions;
    private final long size;
    private final long sizeBytes;

    TensorShape(DType dtype, long[] dimensions) {
        this.dtype = Objects.requireNonNull(dtype, "dtype");
        this.dimensions = Objects.requireNonNull(dimensions, "shape").clone();
        if (dimensions.length == 0) {
            throw new IllegalArgumentException("a shape needs at least one dimension");
        }
        try {
            long product = 1;
            for (long dimension : this.dimensions) {
                if (dimension < 1) {
                    throw new IllegalArgumentException(
                            "shape %s has a dimension below 1"
                                    .formatted(Arrays.toString(dimensions)));
                }
                product = Math.multiplyExact(product, dimension);
            }
            size = product;
            sizeBytes = Math.multiplyExact(product, (long) dtype.bytes());
        } catch (ArithmeticException overflow) {
            throw new IllegalArgumentException(
                    "shape %s of %s is larger than 2^63 - 1 bytes"
                            .formatted(Arrays.toString(dimensions), dtype),
                    overflow);
        }
    }

    DType dtype() {
        return dtype;
    }

    long[] dimensions() {
        return dimensions.clone();
    }

    long size() {
        return size;
    }

    long sizeBytes() {
        return sizeBytes;
    }

    /** The last dimension. */
    long columns() {
        return dimensions[dimensions.length - 1];
    }

    /** The product of all other dimensions. */
    long rows() {
        return size / columns();
    }

    /** Such as "F16[16, 4096]". */
    @Override
    public String toString() {
        return dtype + Arrays.toString(dimensions);
    }
}
