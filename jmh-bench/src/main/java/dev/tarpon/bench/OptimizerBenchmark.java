package dev.tarpon.bench;

import dev.tarpon.Device;
import dev.tarpon.bench.optim.AdamW;
import dev.tarpon.bench.optim.AdamWKind;

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

import java.util.concurrent.TimeUnit;

/**
 * One step of AdamW by one implementation: 65536 parameters stay in the caches, 16 Mi do not. What
 * memory allows is {@link MemoryBenchmark}'s to tell. {@link Main} runs it for all implementations,
 * interleaved.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
        value = 1,
        jvmArgsAppend = {"--enable-native-access=ALL-UNNAMED", "-XX:+UseTransparentHugePages"})
public class OptimizerBenchmark {
    @Param("tarpon-8bit")
    public String implementation;

    @Param("65536")
    public int parameters;

    /** In how many tensors the parameters are, of sizes from one to eight in turn. */
    @Param("1")
    public int tensors;

    @Param("cpu")
    public String device;

    /** Of Tarpon on a CPU; the Java loop has one. */
    @Param("1")
    public int threads;

    private Device opened;
    private AdamW optimizer;
    private int runs;

    @Setup
    public void setUp() {
        TimedDevice timed = new TimedDevice(device);
        opened = timed.open(threads);
        optimizer = AdamWKind.of(implementation).create(opened, parameters, tensors);
        runs = timed.runsPerInvocation();
    }

    @TearDown
    public void tearDown() {
        optimizer.close();
        opened.close();
    }

    /** {@link TimedDevice#runsPerInvocation} steps. */
    @Benchmark
    public void step() {
        for (int i = 0; i < runs; i++) {
            optimizer.step();
        }
        optimizer.synchronize();
    }
}
