package dev.tarpon.quant.demo;

import dev.tarpon.DeviceInfo;

import java.util.Arrays;
import java.util.List;

/**
 * What the demo measured.
 *
 * @param device where the 4-bit layers ran
 * @param activation the type of their inputs and outputs
 * @param groupSize input features that share a scale, or -1
 * @param linearCount how many linear layers were quantised
 * @param floatBytes their weights in fp32
 * @param quantizedBytes their weights on the device, in 4 bits with scales
 * @param quantizeSeconds time to quantise all of them
 * @param tokens how many tokens a run embeds
 * @param floatSeconds best time of a run with fp32 weights in plain Java
 * @param quantizedSeconds best time of a run with 4-bit weights through the library
 * @param pairs the sentences
 * @param toDequantized cosine of each sentence with the fp32 run on the dequantised weights
 * @param toFloat cosine of each sentence with the fp32 run on the original weights
 * @param floatSimilarities similarity of each pair, original weights
 * @param quantizedSimilarities similarity of each pair, 4-bit weights
 */
public record DemoResult(
        DeviceInfo device,
        String activation,
        int groupSize,
        int linearCount,
        long floatBytes,
        long quantizedBytes,
        double quantizeSeconds,
        int tokens,
        double floatSeconds,
        double quantizedSeconds,
        List<SentencePairs.Pair> pairs,
        double[] toDequantized,
        double[] toFloat,
        double[] floatSimilarities,
        double[] quantizedSimilarities) {

    /** The kernels are faithful if no sentence is below this. */
    public static final double FAITHFUL_COSINE = 0.9995;

    /** What round-to-nearest at group 128 reaches on this model, on average over sentences. */
    public static final double EXPECTED_MEAN_COSINE = 0.94;

    /** The mean over fewer pairs than this says too little to be held to a bound. */
    public static final int BOUNDED_PAIRS = 32;

    /** The least of some values. */
    public static double min(double[] values) {
        return Arrays.stream(values).min().orElse(Double.NaN);
    }

    /** The mean of some values. */
    public static double mean(double[] values) {
        return Arrays.stream(values).average().orElse(Double.NaN);
    }

    /** Rank correlation of the pairs' similarities. */
    public double spearman() {
        return Agreement.spearman(floatSimilarities, quantizedSimilarities);
    }

    /** Whether every sentence agrees with the same weights in fp32; NaN does not. */
    public boolean isFaithful() {
        return min(toDequantized) >= FAITHFUL_COSINE;
    }

    /** Whether the mean agreement with the original is held to {@link #EXPECTED_MEAN_COSINE}. */
    public boolean isBounded() {
        return groupSize == 128 && pairs.size() >= BOUNDED_PAIRS;
    }

    /** Whether the mean agreement with the original is as expected, where there is a bound. */
    public boolean isAsExpected() {
        return !isBounded() || mean(toFloat) >= EXPECTED_MEAN_COSINE;
    }
}
