package dev.tarpon.format;

import java.util.Arrays;
import java.util.stream.Collectors;

/** Arithmetic on tensor shapes, safe against the sizes that a hostile file may claim. */
public final class Shapes {
    private Shapes() {}

    /**
     * The number of elements of a shape; 1 for a scalar.
     *
     * @throws ArithmeticException if the count does not fit a long
     * @throws IllegalArgumentException if a dimension is negative
     */
    public static long elements(long[] shape) {
        long count = 1;
        boolean empty = false;
        for (long dimension : shape) {
            if (dimension < 0) {
                throw new IllegalArgumentException("negative dimension in " + text(shape));
            }
            empty |= dimension == 0;
        }
        if (empty) {
            return 0;
        }
        for (long dimension : shape) {
            count = Math.multiplyExact(count, dimension);
        }
        return count;
    }

    /** A shape as messages show it: [2, 3]. */
    public static String text(long... shape) {
        return Arrays.stream(shape)
                .mapToObj(Long::toString)
                .collect(Collectors.joining(", ", "[", "]"));
    }
}
