package dev.tarpon.bench;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;

import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.CompilerControl;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.concurrent.TimeUnit;

/**
 * What a call costs before it does any work: from a Java method that is not inlined (the roof),
 * over the cheapest possible downcall, to a linear layer with no rows through the public API.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class CallOverheadBenchmark {
    private static final MethodHandle ABI_VERSION =
            Linker.nativeLinker()
                    .downcallHandle(
                            SymbolLookup.libraryLookup(Tarpon.libraryPath(), Arena.global())
                                    .findOrThrow("tarpon_abi_version"),
                            FunctionDescriptor.of(ValueLayout.JAVA_INT));

    private static final int FEATURES = 128;

    private int constant;
    private Device device;
    private Stream stream;
    private QuantizedLinear linear;
    private Tensor x;
    private Tensor y;

    @Setup
    public void setUp() {
        constant = Tarpon.abiVersion();
        device = Device.open(DeviceKind.CPU, 0);
        stream = device.createStream();
        try (Arena arena = Arena.ofConfined()) {
            QuantizedWeights weights =
                    QuantizedWeights.quantize(
                            arena.allocate(ValueLayout.JAVA_FLOAT, (long) FEATURES * FEATURES),
                            DType.F32,
                            FEATURES,
                            FEATURES,
                            FEATURES);
            linear = QuantizedLinear.create(device, weights, DType.F16);
        }
        x = device.allocate(DType.F16, 1, FEATURES);
        y = device.allocate(DType.F16, 1, FEATURES);
    }

    @TearDown
    public void tearDown() {
        y.close();
        x.close();
        linear.close();
        stream.close();
        device.close();
    }

    /** The roof: a call that stays in Java. */
    @Benchmark
    public int javaCall() {
        return notInlined();
    }

    @CompilerControl(CompilerControl.Mode.DONT_INLINE)
    private int notInlined() {
        return constant;
    }

    /** A downcall without arguments that returns a constant. */
    @Benchmark
    public int downcall() throws Throwable {
        return (int) ABI_VERSION.invokeExact();
    }

    /** A linear layer of no rows: every check of the API, the downcall, no work. */
    @Benchmark
    public void emptyLinear() {
        linear.forward(x, y, 0, stream);
    }
}
