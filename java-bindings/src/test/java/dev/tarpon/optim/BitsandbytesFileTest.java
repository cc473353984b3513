package dev.tarpon.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.CodeMap;
import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.TestDevices;
import dev.tarpon.TestPaths;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** States as bitsandbytes names them, made by hand and by it: what is read, and what is refused. */
class BitsandbytesFileTest {
    private static final int ROWS = 33;
    private static final int COLUMNS = 130;
    private static final int N = ROWS * COLUMNS; // not a multiple of the block
    private static final int BLOCKS = 17;

    @TempDir Path folder;

    /** A file in the making: the state of parameters "w" (8-bit) and "b" (32-bit). */
    private static final class Contents {
        final Arena arena = Arena.ofAuto();
        final Map<String, HostTensor> tensors = new LinkedHashMap<>();
        private final Random random = new Random(7);

        Contents bytes(String name, long... shape) {
            byte[] values = new byte[Math.toIntExact(count(shape))];
            random.nextBytes(values);
            MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_BYTE, values);
            tensors.put(name, new HostTensor(name, ElementType.U8, shape, data));
            return this;
        }

        Contents floats(String name, long... shape) {
            float[] values = new float[Math.toIntExact(count(shape))];
            for (int i = 0; i < values.length; i++) {
                values[i] = random.nextFloat();
            }
            tensors.put(name, HostTensor.ofFloats(arena, name, values, shape));
            return this;
        }

        Contents put(HostTensor tensor) {
            tensors.put(tensor.name(), tensor);
            return this;
        }

        Contents map(String name, CodeMap map) {
            float[] values = map.codebook();
            values[200] = Math.nextUp(values[200]); // another release's rounding
            tensors.put(name, HostTensor.ofFloats(arena, name, values, 256));
            return this;
        }

        Contents step(String key, long steps) {
            String name = key + ".step";
            MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_LONG, steps);
            tensors.put(name, new HostTensor(name, ElementType.I64, new long[] {}, data));
            return this;
        }

        Path write(Path file) throws IOException {
            var writer = new SafetensorsWriter();
            tensors.values().forEach(writer::add);
            writer.write(file);
            return file;
        }

        byte[] slice(String name, long offset, long bytes) {
            return tensors.get(name).data().asSlice(offset, bytes).toArray(ValueLayout.JAVA_BYTE);
        }

        private static long count(long[] shape) {
            long count = 1;
            for (long dimension : shape) {
                count *= dimension;
            }
            return count;
        }
    }

    private static Contents adam(String w, String b) {
        return new Contents()
                .step(w, 12)
                .bytes(w + ".state1", ROWS, COLUMNS)
                .bytes(w + ".state2", ROWS, COLUMNS)
                .floats(w + ".absmax1", BLOCKS)
                .floats(w + ".absmax2", BLOCKS)
                .map(w + ".qmap1", CodeMap.DYNAMIC_SIGNED)
                .map(w + ".qmap2", CodeMap.DYNAMIC_UNSIGNED)
                .step(b, 12)
                .floats(b + ".state1", 5)
                .floats(b + ".state2", 5);
    }

    private static Contents oneState(CodeMap map) {
        return new Contents()
                .step("w", 3)
                .bytes("w.state1", ROWS, COLUMNS)
                .floats("w.absmax1", BLOCKS)
                .map("w.qmap1", map)
                .step("b", 3)
                .floats("b.state1", 5);
    }

    private static Optimizer optimizer(Device device, UpdateRule rule, StateFormat format) {
        return Optimizer.create(
                device,
                new OptimizerOptions(rule, format),
                List.of(
                        new ParameterGroup(
                                List.of(
                                        zeros(device, "w", ROWS, COLUMNS),
                                        zeros(device, "b", 5)))));
    }

    private static Parameter zeros(Device device, String name, long... shape) {
        Tensor value = device.allocate(DType.F32, shape);
        float[] zeros = new float[Math.toIntExact(value.size())];
        return new Parameter(
                name, value.copyFrom(zeros), device.allocate(DType.F32, shape).copyFrom(zeros));
    }

    private static byte[] bytes(Tensor tensor) {
        byte[] bytes = new byte[Math.toIntExact(tensor.sizeBytes())];
        tensor.copyTo(MemorySegment.ofArray(bytes));
        return bytes;
    }

    private static byte[] bytes(Contents contents, String name) {
        return contents.slice(name, 0, contents.tensors.get(name).data().byteSize());
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void statesAreTakenOver(String spec) throws IOException {
        Contents contents = adam("w", "b");
        Path file = contents.write(folder.resolve("adam.safetensors"));
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                Optimizer optimizer = optimizer(device, UpdateRule.ADAMW, StateFormat.DYNAMIC8)) {
            optimizer.loadBitsandbytes(file);
            ParameterState w = optimizer.states().get(0);
            ParameterState b = optimizer.states().get(1);
            for (int slot = 0; slot < 2; slot++) {
                String number = Integer.toString(slot + 1);
                assertArrayEquals(bytes(contents, "w.state" + number), bytes(w.states().get(slot)));
                assertArrayEquals(
                        bytes(contents, "w.absmax" + number), bytes(w.absmax().get(slot)));
                assertArrayEquals(bytes(contents, "b.state" + number), bytes(b.states().get(slot)));
            }
            assertEquals(12, optimizer.counters().step());
            optimizer.step(1e-3, stream);
            assertEquals(13, optimizer.counters().step());
        }
    }

    @Test
    void parametersMayBeNamedByTheirIndex() throws IOException {
        Contents contents = adam("state.0", "state.1");
        Path file = contents.write(folder.resolve("adam.safetensors"));
        try (Device device = Device.open("cpu");
                Optimizer optimizer = optimizer(device, UpdateRule.ADAM, StateFormat.DYNAMIC8)) {
            optimizer.loadBitsandbytes(file, name -> name.equals("w") ? "state.0" : "state.1");
            assertArrayEquals(
                    bytes(contents, "state.1.state2"),
                    bytes(optimizer.states().get(1).states().get(1)));
        }
    }

    @Test
    void ademamixStacksItsFirstMoments() throws IOException {
        Contents contents =
                new Contents()
                        .step("w", 4)
                        .bytes("w.state1", 2, ROWS, COLUMNS)
                        .bytes("w.state2", ROWS, COLUMNS)
                        .floats("w.absmax1", 2, BLOCKS)
                        .floats("w.absmax2", BLOCKS)
                        .map("w.qmap1", CodeMap.DYNAMIC_SIGNED)
                        .map("w.qmap2", CodeMap.DYNAMIC_UNSIGNED)
                        .step("b", 4)
                        .floats("b.state1", 2, 5)
                        .floats("b.state2", 5);
        Path file = contents.write(folder.resolve("ademamix.safetensors"));
        try (Device device = Device.open("cpu");
                Optimizer optimizer =
                        optimizer(device, UpdateRule.ADEMAMIX, StateFormat.DYNAMIC8)) {
            optimizer.loadBitsandbytes(file);
            ParameterState w = optimizer.states().get(0);
            assertArrayEquals(contents.slice("w.state1", 0, N), bytes(w.states().get(0)));
            assertArrayEquals(contents.slice("w.state1", N, N), bytes(w.states().get(1)));
            assertArrayEquals(
                    contents.slice("w.absmax1", 4 * BLOCKS, 4 * BLOCKS), bytes(w.absmax().get(1)));
            assertArrayEquals(bytes(contents, "w.state2"), bytes(w.states().get(2)));
            ParameterState b = optimizer.states().get(1);
            assertArrayEquals(contents.slice("b.state1", 20, 20), bytes(b.states().get(1)));
        }
    }

    private void refuses(UpdateRule rule, StateFormat format, Contents contents, String... parts)
            throws IOException {
        Path file = contents.write(folder.resolve("refused.safetensors"));
        try (Device device = Device.open("cpu");
                Optimizer optimizer = optimizer(device, rule, format)) {
            var failure =
                    assertThrows(FormatException.class, () -> optimizer.loadBitsandbytes(file));
            for (String part : parts) {
                assertTrue(
                        failure.getMessage().contains(part),
                        () -> "no \"" + part + "\" in: " + failure.getMessage());
            }
            for (ParameterState state : optimizer.states()) {
                for (Tensor tensor : state.states()) {
                    byte[] zeros = new byte[Math.toIntExact(tensor.sizeBytes())];
                    assertArrayEquals(zeros, bytes(tensor), failure.getMessage());
                }
            }
            assertEquals(0, optimizer.counters().step());
        }
    }

    @Test
    void whatDoesNotMatchIsRefusedAndChangesNothing() throws IOException {
        UpdateRule adamw = UpdateRule.ADAMW;
        StateFormat dynamic8 = StateFormat.DYNAMIC8;
        // Releases with blocks of 2048.
        refuses(adamw, dynamic8, adam("w", "b").floats("w.absmax2", 3), "F32 [3]", "256", "17");
        Contents otherMap = adam("w", "b").map("w.qmap2", CodeMap.DYNAMIC_SIGNED);
        refuses(adamw, dynamic8, otherMap, "'w.qmap2'", "DYNAMIC_UNSIGNED");
        refuses(
                adamw,
                StateFormat.F32,
                adam("w", "b"),
                "'w.state1' is U8 [33, 130]",
                "F32 [33, 130]");
        refuses(adamw, dynamic8, adam("w", "b").floats("b.state2", 6), "'b.state2'", "[6]", "[5]");
        refuses(adamw, dynamic8, adam("w", "b").step("b", 11), "12 steps", "'b' 11");
        refuses(adamw, dynamic8, adam("w", "b").step("w", -1), "'w.step'", "-1");
        refuses(adamw, dynamic8, adam("w", "b").floats("w.step", 2), "'w.step'", "F32 [2]");
        // Percentile clipping keeps a history of norms.
        refuses(adamw, dynamic8, adam("w", "b").floats("w.gnorm_vec", 100), "'w.gnorm_vec'");
        Contents missing = adam("w", "b");
        missing.tensors.remove("w.absmax1");
        refuses(adamw, dynamic8, missing, "'w.absmax1' is missing");
        refuses(adamw, dynamic8, adam("v", "b"), "'w.step' is missing");
        refuses(adamw, StateFormat.FP8, adam("w", "b"), "FP8");
        // Second moments are kept by the signed map there.
        Contents signed = oneState(CodeMap.DYNAMIC_SIGNED);
        refuses(UpdateRule.RMSPROP, dynamic8, signed, "RMSPROP", "DYNAMIC_UNSIGNED");
        refuses(UpdateRule.LARS, dynamic8, signed, "LARS");
        refuses(UpdateRule.SOPHIAG, dynamic8, adam("w", "b"), "SOPHIAG");
    }

    @Test
    void oneStateIsEnoughForRulesThatHaveOne() throws IOException {
        Contents contents = oneState(CodeMap.DYNAMIC_SIGNED);
        Path file = contents.write(folder.resolve("lion.safetensors"));
        try (Device device = Device.open("cpu")) {
            for (UpdateRule rule : List.of(UpdateRule.LION, UpdateRule.SGD)) {
                try (Optimizer optimizer = optimizer(device, rule, StateFormat.DYNAMIC8)) {
                    optimizer.loadBitsandbytes(file);
                    assertArrayEquals(
                            bytes(contents, "w.state1"),
                            bytes(optimizer.states().get(0).states().get(0)));
                    assertEquals(3, optimizer.counters().step());
                }
            }
        }
    }

    /** Its own room for an update's norm is nothing to take over. */
    @Test
    void lambsScratchIsLeft() throws IOException {
        Path file =
                adam("w", "b")
                        .floats("w.unorm_vec", 1)
                        .floats("b.unorm_vec", 1)
                        .write(folder.resolve("lamb.safetensors"));
        try (Device device = Device.open("cpu");
                Optimizer optimizer = optimizer(device, UpdateRule.LAMB, StateFormat.DYNAMIC8)) {
            optimizer.loadBitsandbytes(file);
            assertEquals(12, optimizer.counters().step());
        }
    }

    private static SafetensorsFile golden(String name) throws IOException {
        Path file = TestPaths.root().resolve("../shared/golden").normalize().resolve(name);
        assumeTrue(Files.isRegularFile(file), () -> "golden file " + name + " is not there");
        return SafetensorsFile.open(file);
    }

    private static float[] floats(SafetensorsFile file, String name) {
        return file.find(name).orElseThrow().toFloats();
    }

    private static double meanDistance(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += Math.abs((double) a[i] - b[i]);
        }
        return sum / a.length;
    }

    /** Goes on after 5 steps of the reference implementation, and is with it after 20. */
    static java.util.stream.Stream<Arguments> trajectories() {
        return TestDevices.all()
                .flatMap(
                        spec ->
                                java.util.stream.Stream.of(
                                        Arguments.of(spec, "adam", UpdateRule.ADAM, 1e-3, 0.999, 0),
                                        Arguments.of(
                                                spec, "adamw", UpdateRule.ADAMW, 1e-3, 0.999, 0.01),
                                        Arguments.of(spec, "lion", UpdateRule.LION, 1e-4, 0.99, 0),
                                        Arguments.of(
                                                spec, "momentum", UpdateRule.SGD, 1e-2, 0.999, 0)));
    }

    @ParameterizedTest
    @MethodSource("trajectories")
    void trajectoriesGoOnFromAnImport(
            String spec, String name, UpdateRule rule, double lr, double beta2, double decay)
            throws IOException {
        try (SafetensorsFile inputs = golden("bnb_optim_inputs.safetensors");
                SafetensorsFile maps = golden("bnb_dynamic_maps.safetensors");
                SafetensorsFile run = golden("bnb_optim_plain_" + name + ".safetensors")) {
            float[] grads = floats(inputs, "grads_plain");
            int n = floats(inputs, "p0").length;
            Contents contents = new Contents().step("w", 5);
            for (int slot = 1; slot <= rule.slots().size(); slot++) {
                for (String part : List.of("state", "absmax")) {
                    HostTensor tensor = run.find("nearest.step5." + part + slot).orElseThrow();
                    contents.put(tensor.renamed("w." + part + slot));
                }
                String map = slot == 1 ? "dynamic_signed" : "dynamic_unsigned";
                contents.put(maps.find(map).orElseThrow().renamed("w.qmap" + slot));
            }
            Path file = contents.write(folder.resolve("golden.safetensors"));
            try (Device device = TestDevices.open(spec);
                    Stream stream = device.createStream()) {
                Parameter w = zeros(device, "w", n);
                w.value().copyFrom(floats(run, "nearest.step5.p"));
                try (Optimizer optimizer =
                        Optimizer.create(
                                device,
                                new OptimizerOptions(rule),
                                List.of(new ParameterGroup(List.of(w))))) {
                    optimizer.hyperparameters().beta2(beta2).weightDecay(decay).momentum(0.9);
                    optimizer.loadBitsandbytes(file);
                    for (int t = 5; t < 20; t++) {
                        w.gradient().copyFrom(Arrays.copyOfRange(grads, t * n, (t + 1) * n));
                        optimizer.step(lr, stream);
                    }
                    float[] theirs = floats(run, "nearest.step20.p");
                    // Rounding, and the few states that it pushes over a midpoint: far less than
                    // what 8-bit states cost, or a step count that starts afresh.
                    double bound =
                            15e-8 + 0.01 * meanDistance(theirs, floats(run, "ref32.step20.p"));
                    double distance = meanDistance(theirs, w.value().toFloatArray());
                    assertTrue(
                            distance <= bound,
                            "%s: %g apart, at most %g".formatted(spec, distance, bound));
                }
            }
        }
    }
}
