package dev.tarpon.quant.kv;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Hadamard;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * What a cache wants to know of a layer's keys before rotary positions, collected token by token:
 * their mean and deviation in each channel, and the sums of the rotated keys, whose rising order is
 * RotateKV's reordering (Su et al., "RotateKV", IJCAI 2025, section 3.2).
 *
 * <p>Not thread-safe.
 */
public final class KeyStatistics {
    private final int keyValueHeads;
    private final int headDim;
    private final double[] sums;
    private final double[] squares;
    private long tokens;

    /** Nothing is collected yet. */
    public KeyStatistics(int keyValueHeads, int headDim) {
        this.keyValueHeads = keyValueHeads;
        this.headDim = headDim;
        sums = new double[keyValueHeads * headDim];
        squares = new double[sums.length];
    }

    /** Adds keys [tokens, keyValueHeads, headDim]. */
    public void add(float[] keys) {
        for (int at = 0; at < keys.length; at += sums.length) {
            for (int c = 0; c < sums.length; c++) {
                double key = keys[at + c];
                sums[c] += key;
                squares[c] += key * key;
            }
            tokens++;
        }
    }

    /** Tokens so far. */
    public long tokens() {
        return tokens;
    }

    /** The mean of each channel, [keyValueHeads * headDim]. */
    public float[] mean() {
        float[] mean = new float[sums.length];
        for (int c = 0; c < mean.length; c++) {
            mean[c] = (float) (sums[c] / Math.max(1, tokens));
        }
        return mean;
    }

    /** The standard deviation of each channel. */
    public float[] deviation() {
        float[] deviation = new float[sums.length];
        for (int c = 0; c < deviation.length; c++) {
            double mean = sums[c] / Math.max(1, tokens);
            deviation[c] =
                    (float) Math.sqrt(Math.max(0, squares[c] / Math.max(1, tokens) - mean * mean));
        }
        return deviation;
    }

    /** Heads that are rotated together: the largest of 4, 2 and 1 that divides their number. */
    static int groupHeads(int keyValueHeads) {
        return keyValueHeads % 4 == 0 ? 4 : keyValueHeads % 2 == 0 ? 2 : 1;
    }

    /**
     * The mean of the keys as they are after rotation over groups of heads. Rotation is linear, so
     * it is that of the mean.
     *
     * @param device where it is rotated; any gives the same bits
     */
    public float[] rotatedMean(Device device) {
        int size = groupHeads(keyValueHeads) * headDim;
        try (Stream stream = device.createStream();
                Tensor rows =
                        device.allocate(DType.F32, sums.length / size, size).copyFrom(mean())) {
            Hadamard.transform(rows, rows, stream);
            return rows.toFloatArray();
        }
    }

    /** Channels of the rotated keys by rising sums; equal ones stay in order. */
    public static int[] order(float[] rotatedMean) {
        Integer[] order = IntStream.range(0, rotatedMean.length).boxed().toArray(Integer[]::new);
        Arrays.sort(order, Comparator.comparingDouble(c -> rotatedMean[c]));
        return Arrays.stream(order).mapToInt(Integer::intValue).toArray();
    }

    /**
     * A mean with small entries set to zero: pairs of rotary positions of which neither channel's
     * mean reaches {@code threshold} standard deviations of its head. They gain little by being
     * taken off, and a pair of zeros costs nothing in attention.
     *
     * @param deviation of each channel
     */
    public static float[] trim(float[] mean, float[] deviation, int headDim, double threshold) {
        float[] trimmed = new float[mean.length];
        for (int head = 0; head < mean.length; head += headDim) {
            double square = 0;
            for (int i = 0; i < headDim; i++) {
                square += (double) deviation[head + i] * deviation[head + i];
            }
            double least = threshold * Math.sqrt(square / headDim);
            for (int i = 0; i < headDim / 2; i++) {
                int first = head + i;
                int second = first + headDim / 2;
                if (Math.max(Math.abs(mean[first]), Math.abs(mean[second])) >= least) {
                    trimmed[first] = mean[first];
                    trimmed[second] = mean[second];
                }
            }
        }
        return trimmed;
    }
}
