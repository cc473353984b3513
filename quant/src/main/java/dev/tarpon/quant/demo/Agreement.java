package dev.tarpon.quant.demo;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/** How closely two sets of embeddings agree. */
public final class Agreement {
    private Agreement() {}

    /** The cosine of the angle between two vectors; NaN if one of them is zero. */
    public static double cosine(float[] a, float[] b) {
        if (a.length != b.length) {
            throw new IllegalArgumentException(
                    "vectors of %d and %d values".formatted(a.length, b.length));
        }
        double dot = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            dot += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return dot / Math.sqrt(aa * bb);
    }

    /** The cosine of each vector with its counterpart. */
    public static double[] cosines(float[][] a, float[][] b) {
        return IntStream.range(0, a.length).mapToDouble(i -> cosine(a[i], b[i])).toArray();
    }

    /** The similarity of the pairs (0, 1), (2, 3), and so on. */
    public static double[] pairSimilarities(float[][] embeddings) {
        return IntStream.range(0, embeddings.length / 2)
                .mapToDouble(i -> cosine(embeddings[2 * i], embeddings[2 * i + 1]))
                .toArray();
    }

    /**
     * Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing the
     * mean of their ranks. NaN for fewer than two values or if all values of a side are equal.
     */
    public static double spearman(double[] a, double[] b) {
        if (a.length != b.length) {
            throw new IllegalArgumentException(
                    "series of %d and %d values".formatted(a.length, b.length));
        }
        return pearson(ranks(a), ranks(b));
    }

    private static double pearson(double[] a, double[] b) {
        double meanA = Arrays.stream(a).average().orElse(Double.NaN);
        double meanB = Arrays.stream(b).average().orElse(Double.NaN);
        double ab = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            ab += (a[i] - meanA) * (b[i] - meanB);
            aa += (a[i] - meanA) * (a[i] - meanA);
            bb += (b[i] - meanB) * (b[i] - meanB);
        }
        return ab / Math.sqrt(aa * bb);
    }

    private static double[] ranks(double[] values) {
        Integer[] order =
                IntStream.range(0, values.length)
                        .boxed()
                        .sorted(Comparator.comparingDouble(i -> values[i]))
                        .toArray(Integer[]::new);
        double[] ranks = new double[values.length];
        int begin = 0;
        while (begin < order.length) {
            int end = begin + 1;
            while (end < order.length && values[order[end]] == values[order[begin]]) {
                end++;
            }
            for (int i = begin; i < end; i++) {
                ranks[order[i]] = (begin + end - 1) / 2.0;
            }
            begin = end;
        }
        return ranks;
    }
}
