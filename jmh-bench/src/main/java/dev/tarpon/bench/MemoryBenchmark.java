package dev.tarpon.bench;

import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * The roof of the optimizers: a plain loop, shared out among threads, that reads two floats and
 * writes one. Its GB/s are what the machine's memory gives to steps that read and write alike.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
        value = 1,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "-XX:+UseTransparentHugePages"})
public class MemoryBenchmark {
    static final int BYTES_PER_ELEMENT = 12;

    /** Fewer stay in a cache, and say nothing about memory. */
    static final int LEAST_ELEMENTS = 8 << 20;

    @Param("16777216")
    public int elements;

    /** 0 for one on each processor. */
    @Param("0")
    public int threads;

    private float[] updated;
    private float[] read;
    private int parts;
    private ExecutorService pool;

    @Setup
    public void setUp() {
        updated = new float[elements];
        read = new float[elements];
        parts = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        pool = Executors.newFixedThreadPool(parts);
        for (int i = 0; i < elements; i++) {
            read[i] = i;
        }
    }

    @TearDown
    public void tearDown() {
        pool.shutdownNow();
    }

    @Benchmark
    public void update() throws Exception {
        List<Future<?>> running = new ArrayList<>();
        for (int part = 0; part < parts; part++) {
            int first = (int) ((long) elements * part / parts);
            int end = (int) ((long) elements * (part + 1) / parts);
            running.add(pool.submit(() -> add(updated, read, first, end)));
        }
        for (Future<?> part : running) {
            part.get();
        }
    }

    private static void add(float[] updated, float[] read, int first, int end) {
        for (int i = first; i < end; i++) {
            updated[i] += read[i];
        }
    }
}
