package dev.tarpon.bench;

import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.IntToDoubleFunction;

/**
 * What Java can do at most on all processors: reading memory, within 5% of the same in C++ on Zen
 * 4, and fp32 multiply-adds in the caches, at about two thirds of it. native/bench's
 * cpu_linear_bench measures the peaks of instructions. {@link Main} runs these in every round
 * beside the cases that are compared with them.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
        value = 1,
        jvmArgsPrepend = {"-Xmx1g", "-XX:+UseTransparentHugePages"})
public class RoofBenchmark {
    /** Far more than the caches hold. */
    private static final int READ_BYTES = 512 << 20;

    private static final int FLOATS = 2048;
    private static final int PASSES = 5000;
    private static final int CHAIN = 16;

    private static final int THREADS = Runtime.getRuntime().availableProcessors();

    /** Memory that one call of {@link #read} reads. */
    static double readBytes() {
        return (double) (READ_BYTES / Long.BYTES / THREADS) * Long.BYTES * THREADS;
    }

    /** Operations, two a multiply-add, of one call of {@link #multiplyAdd}. */
    static double multiplyAddFlops() {
        return 2.0 * CHAIN * FLOATS * PASSES * THREADS;
    }

    private final long[][] memory = new long[THREADS][];
    private final float[][] values = new float[THREADS][FLOATS];
    private ExecutorService threads;

    @Setup
    public void setUp() {
        threads = Executors.newFixedThreadPool(THREADS);
        for (int i = 0; i < THREADS; i++) {
            memory[i] = new long[READ_BYTES / Long.BYTES / THREADS];
        }
    }

    @TearDown
    public void tearDown() {
        threads.shutdown();
    }

    @Benchmark
    public double read() throws InterruptedException, ExecutionException {
        return onAllThreads(thread -> sum(memory[thread]));
    }

    @Benchmark
    public double multiplyAdd() throws InterruptedException, ExecutionException {
        return onAllThreads(thread -> chains(values[thread]));
    }

    private double onAllThreads(IntToDoubleFunction work)
            throws InterruptedException, ExecutionException {
        List<Callable<Double>> tasks = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            int thread = i;
            tasks.add(() -> work.applyAsDouble(thread));
        }
        double total = 0;
        for (Future<Double> result : threads.invokeAll(tasks)) {
            total += result.get();
        }
        return total;
    }

    private static double sum(long[] longs) {
        long sum = 0;
        for (long value : longs) {
            sum += value;
        }
        return sum;
    }

    /** CHAIN multiply-adds of each value that is read, one after the other. */
    private static double chains(float[] floats) {
        for (int pass = 0; pass < PASSES; pass++) {
            chain(floats);
        }
        return floats[0];
    }

    private static void chain(float[] floats) {
        float a = 0.5f;
        float b = 0.25f;
        for (int i = 0; i < floats.length; i++) {
            float v = floats[i];
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            v = Math.fma(v, a, b);
            floats[i] = v;
        }
    }
}
