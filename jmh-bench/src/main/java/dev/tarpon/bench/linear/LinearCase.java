package dev.tarpon.bench.linear;

import dev.tarpon.DType;
import dev.tarpon.bench.TimedDevice;

/**
 * One linear layer to be timed: y [rows, outFeatures] = x [rows, inFeatures] * W.
 *
 * @param dtype of x and y; the plain Java loops compute in fp32 whatever it says
 * @param threads CPU threads, 0 for all
 * @param coldBytes copies of the weights are used in turn until they fill this much memory, so that
 *     each run reads its weights from memory and not from a cache; 0 keeps one copy, which is then
 *     hot
 */
public record LinearCase(
        TimedDevice device,
        long inFeatures,
        long outFeatures,
        int rows,
        DType dtype,
        int threads,
        long coldBytes) {
    /** Input rows that share a scale in every case that is timed. */
    public static final int GROUP_SIZE = 128;

    /** More copies than this make the set-up slow and the weights no colder. */
    private static final int MAX_WEIGHT_SETS = 4096;

    public LinearCase {
        if (rows < 1 || threads < 0 || coldBytes < 0) {
            throw new IllegalArgumentException(
                    "rows must be at least 1, threads and cold bytes at least 0, not %d, %d and %d"
                            .formatted(rows, threads, coldBytes));
        }
    }

    /** Reads "INxOUT", such as "4096x14336", into the two sizes. */
    public static long[] parseShape(String shape) {
        String[] sizes = shape.split("x", -1);
        if (sizes.length == 2 && sizes[0].matches("\\d{1,7}") && sizes[1].matches("\\d{1,7}")) {
            long in = Long.parseLong(sizes[0]);
            long out = Long.parseLong(sizes[1]);
            if (in >= 2 && out >= 2 && out % 2 == 0) {
                return new long[] {in, out};
            }
        }
        throw new IllegalArgumentException(
                "shape \"" + shape + "\" is not INxOUT with an even OUT, such as 4096x14336");
    }

    /** How many copies of weights of this size fill {@link #coldBytes}. */
    public int weightSets(long weightBytes) {
        return Math.clamp(Math.ceilDiv(coldBytes, weightBytes), 1, MAX_WEIGHT_SETS);
    }

    /** Multiplications and additions of one run. */
    public double flops() {
        return 2.0 * rows * inFeatures * outFeatures;
    }

    /** Memory that one run must at least move, with the weights stored in weightBytes. */
    public double bytesMoved(long weightBytes) {
        return weightBytes + (double) rows * (inFeatures + outFeatures) * dtype.bytes();
    }
}
