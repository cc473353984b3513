package dev.tarpon.bench;

import java.util.Arrays;
import java.util.List;

/**
 * One case and what it took: nanoseconds a run, a value for each round, in the order of the rounds.
 */
record Measurement(BenchmarkCase benchmark, List<Double> roundsNs) {
    double medianNs() {
        return median(roundsNs);
    }

    double minNs() {
        return roundsNs.stream().mapToDouble(Double::doubleValue).min().orElseThrow();
    }

    double maxNs() {
        return roundsNs.stream().mapToDouble(Double::doubleValue).max().orElseThrow();
    }

    double gigabytesPerSecond() {
        return benchmark.bytes() / medianNs();
    }

    double gigaflops() {
        return benchmark.flops() / medianNs();
    }

    /**
     * How many times as long as {@code reference} this takes: the median over rounds of the ratio
     * within the round, in which the two ran one after the other.
     */
    double ratioTo(Measurement reference) {
        double[] ratios = new double[roundsNs.size()];
        for (int i = 0; i < ratios.length; i++) {
            ratios[i] = roundsNs.get(i) / reference.roundsNs.get(i);
        }
        return median(Arrays.stream(ratios).boxed().toList());
    }

    /** The rate of bytes in units of {@code roof}'s, within rounds. */
    double shareOfBytes(Measurement roof) {
        return benchmark.bytes() / roof.benchmark.bytes() / ratioTo(roof);
    }

    /** The rate of operations in units of {@code roof}'s, within rounds. */
    double shareOfFlops(Measurement roof) {
        return benchmark.flops() / roof.benchmark.flops() / ratioTo(roof);
    }

    static double median(List<Double> values) {
        double[] sorted = values.stream().mapToDouble(Double::doubleValue).sorted().toArray();
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
