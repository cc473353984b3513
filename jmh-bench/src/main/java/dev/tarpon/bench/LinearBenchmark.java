package dev.tarpon.bench;

import dev.tarpon.DType;
import dev.tarpon.bench.linear.Implementation;
import dev.tarpon.bench.linear.LinearCase;
import dev.tarpon.bench.linear.LinearImplementation;

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
 * One linear layer by one implementation. {@link Main} runs it for all combinations that make sense
 * on a machine, interleaved; a single one runs by JMH's own command line too.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class LinearBenchmark {
    @Param("tarpon")
    public String implementation;

    @Param("cpu")
    public String device;

    /** inFeatures x outFeatures. */
    @Param("4096x4096")
    public String shape;

    @Param("1")
    public int rows;

    @Param("F16")
    public DType dtype;

    @Param("0")
    public int threads;

    @Param("268435456")
    public long coldBytes;

    private LinearImplementation linear;
    private int runs;
    private int nextSet;

    @Setup
    public void setUp() {
        long[] sizes = LinearCase.parseShape(shape);
        LinearCase layer =
                new LinearCase(
                        new TimedDevice(device),
                        sizes[0],
                        sizes[1],
                        rows,
                        dtype,
                        threads,
                        coldBytes);
        Implementation chosen = Implementation.of(implementation);
        chosen.unavailableReason(layer)
                .ifPresent(
                        reason -> {
                            throw new IllegalStateException(implementation + ": " + reason);
                        });
        linear = chosen.create(layer);
        runs = layer.device().runsPerInvocation();
    }

    @TearDown
    public void tearDown() {
        linear.close();
    }

    /** {@link LinearCase#runsPerInvocation} runs, each with the next copy of the weights. */
    @Benchmark
    public void multiply() {
        for (int i = 0; i < runs; i++) {
            linear.run(nextSet);
            nextSet = nextSet + 1 == linear.weightSets() ? 0 : nextSet + 1;
        }
        linear.synchronize();
    }
}
