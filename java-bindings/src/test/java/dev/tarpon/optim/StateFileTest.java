package dev.tarpon.optim;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.TestDevices;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;

/** Saved states: training goes on bit for bit, and files that do not match change nothing. */
class StateFileTest {
    private static final double LR = 1e-2;

    @TempDir Path folder;

    /** A model of three tensors, one of them small, in bf16 and fp32. */
    private record Model(Device device, List<Parameter> parameters) implements AutoCloseable {
        static Model create(Device device) {
            return new Model(
                    device,
                    List.of(
                            parameter(device, "a.weight", DType.BF16, 33, 128),
                            parameter(device, "b.weight", DType.F32, 4097),
                            parameter(device, "b.bias", DType.F32, 7).withMomentum()));
        }

        static Parameter parameter(Device device, String name, DType dtype, long... shape) {
            Tensor value = device.allocate(dtype, shape);
            Tensor gradient = device.allocate(dtype, shape);
            int n = Math.toIntExact(value.size());
            value.copyFrom(OptimizerTest.random(name.hashCode(), n));
            gradient.copyFrom(new float[n]);
            return new Parameter(name, value, gradient);
        }

        Optimizer optimizer(OptimizerOptions options) {
            return Optimizer.create(device, options, List.of(new ParameterGroup(parameters)));
        }

        void train(Optimizer optimizer, int from, int to, Stream stream) {
            for (int step = from; step < to; step++) {
                for (Parameter parameter : parameters) {
                    int n = Math.toIntExact(parameter.value().size());
                    float[] g = OptimizerTest.random(1000L * step + n, n);
                    if (step == 1) {
                        g[0] = Float.POSITIVE_INFINITY; // a skipped block or step is counted
                    }
                    parameter.gradient().copyFrom(g);
                }
                optimizer.step(LR / (1 + step), stream);
            }
        }

        List<byte[]> values() {
            return parameters.stream().map(parameter -> bytes(parameter.value())).toList();
        }

        void setValues(List<byte[]> values) {
            for (int i = 0; i < values.size(); i++) {
                parameters.get(i).value().copyFrom(MemorySegment.ofArray(values.get(i)));
            }
        }

        @Override
        public void close() {
            for (Parameter parameter : parameters) {
                parameter.value().close();
                parameter.gradient().close();
            }
        }
    }

    private static byte[] bytes(Tensor tensor) {
        byte[] bytes = new byte[Math.toIntExact(tensor.sizeBytes())];
        tensor.copyTo(MemorySegment.ofArray(bytes));
        return bytes;
    }

    private static List<byte[]> states(Optimizer optimizer) {
        List<byte[]> all = new ArrayList<>();
        for (ParameterState state : optimizer.states()) {
            state.states().forEach(tensor -> all.add(bytes(tensor)));
            state.absmax().forEach(tensor -> all.add(bytes(tensor)));
        }
        return all;
    }

    private static void assertSame(List<byte[]> expected, List<byte[]> actual, String what) {
        assertEquals(expected.size(), actual.size(), what);
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i), actual.get(i), what + ", tensor " + i);
        }
    }

    private static List<OptimizerOptions> combinations() {
        List<OptimizerOptions> options = new ArrayList<>();
        for (UpdateRule rule : UpdateRule.values()) {
            options.add(new OptimizerOptions(rule, StateFormat.F32));
            options.add(new OptimizerOptions(rule, StateFormat.DYNAMIC8));
        }
        options.add(new OptimizerOptions(UpdateRule.ADAM, StateFormat.FP8));
        options.add(new OptimizerOptions(UpdateRule.ADAMW, StateFormat.FP8));
        return options;
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void trainingGoesOnBitForBit(String spec) throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            for (OptimizerOptions options : combinations()) {
                String what = options.rule() + " " + options.stateFormat();
                List<byte[]> values;
                List<byte[]> states;
                OptimizerCounters saved;
                OptimizerCounters counters;
                List<byte[]> checkpoint;
                try (Model model = Model.create(device);
                        Optimizer optimizer = model.optimizer(options)) {
                    // Stochastic rounding goes on with the same numbers: seed and step are saved.
                    optimizer.hyperparameters().stochasticParameters(true).stochasticStates(true);
                    optimizer.hyperparameters().seed(-3).weightDecay(0.03);
                    model.train(optimizer, 0, 3, stream);
                    optimizer.save(file);
                    saved = optimizer.counters();
                    checkpoint = model.values();
                    model.train(optimizer, 3, 5, stream);
                    values = model.values();
                    states = states(optimizer);
                    counters = optimizer.counters();
                }
                try (Model model = Model.create(device);
                        Optimizer optimizer = model.optimizer(options)) {
                    model.setValues(checkpoint);
                    optimizer.load(file);
                    assertEquals(saved, optimizer.counters(), what);
                    assertTrue(saved.skippedBlocks() + saved.skippedSteps() > 0, what);
                    model.train(optimizer, 3, 5, stream);
                    assertSame(values, model.values(), what);
                    assertSame(states, states(optimizer), what);
                    assertEquals(counters, optimizer.counters(), what);
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void statesMoveBetweenDevices(String spec) throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        OptimizerOptions options = new OptimizerOptions(UpdateRule.ADAMW);
        List<byte[]> expected;
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                Model model = Model.create(device);
                Optimizer optimizer = model.optimizer(options)) {
            model.train(optimizer, 0, 2, stream);
            optimizer.save(file);
            expected = states(optimizer);
        }
        try (Device device = Device.open("cpu");
                Model model = Model.create(device);
                Optimizer optimizer = model.optimizer(options)) {
            optimizer.load(file);
            assertSame(expected, states(optimizer), spec + " to cpu");
        }
    }

    @Test
    void tensorsAndMetadataAreNamed() throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        try (Device device = Device.open("cpu");
                Stream stream = device.createStream();
                Model model = Model.create(device);
                Optimizer optimizer = model.optimizer(new OptimizerOptions(UpdateRule.ADAMW))) {
            model.train(optimizer, 0, 2, stream);
            optimizer.save(file);
        }
        try (SafetensorsFile saved = SafetensorsFile.open(file)) {
            assertEquals("ADAMW", saved.metadata().get("rule"));
            assertEquals("2", saved.metadata().get("step"));
            assertEquals("DYNAMIC8", saved.metadata().get("state_format:a.weight"));
            assertEquals("F32", saved.metadata().get("state_format:b.bias"));
            assertEquals("0.005", saved.metadata().get("hyper:lr"));
            assertEquals("U8 [33, 128]", saved.find("a.weight.m").orElseThrow().description());
            assertEquals("F32 [17]", saved.find("a.weight.v.absmax").orElseThrow().description());
            assertEquals("F32 [7]", saved.find("b.bias.v").orElseThrow().description());
            assertEquals(10, saved.tensors().size());
        }
        try (java.util.stream.Stream<Path> files = Files.list(folder)) {
            assertEquals(List.of(file), files.toList());
        }
    }

    @Test
    void savingFailsWithoutHarmToTheOldFile() throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        try (Device device = Device.open("cpu");
                Model model = Model.create(device);
                Optimizer optimizer = model.optimizer(new OptimizerOptions(UpdateRule.LION))) {
            optimizer.save(file);
            byte[] before = Files.readAllBytes(file);
            optimizer.states().getFirst().states().getFirst().close();
            assertThrows(IllegalStateException.class, () -> optimizer.save(file));
            assertArrayEquals(before, Files.readAllBytes(file));
            try (java.util.stream.Stream<Path> files = Files.list(folder)) {
                assertEquals(List.of(file), files.toList());
            }
        }
    }

    /** Refuses {@code file} with all parts in the message; states and counters stay. */
    private static void refuses(Optimizer optimizer, Path file, String... parts) {
        List<byte[]> states = states(optimizer);
        OptimizerCounters counters = optimizer.counters();
        var failure = assertThrows(FormatException.class, () -> optimizer.load(file));
        for (String part : parts) {
            assertTrue(
                    failure.getMessage().contains(part),
                    () -> "no \"" + part + "\" in: " + failure.getMessage());
        }
        assertSame(states, states(optimizer), failure.getMessage());
        assertEquals(counters, optimizer.counters());
        assertEquals(0.5, optimizer.hyperparameters().beta1(), failure.getMessage());
    }

    /** The saved file with tensors and metadata changed on the way. */
    private Path changed(
            Path original, UnaryOperator<HostTensor> tensors, Consumer<SafetensorsWriter> more)
            throws IOException {
        Path file = folder.resolve("changed.safetensors");
        try (SafetensorsFile saved = SafetensorsFile.open(original)) {
            var writer = new SafetensorsWriter();
            saved.metadata().forEach(writer::metadata);
            for (HostTensor tensor : saved.tensors()) {
                HostTensor kept = tensors.apply(tensor);
                if (kept != null) {
                    writer.add(kept);
                }
            }
            more.accept(writer);
            writer.write(file);
        }
        return file;
    }

    @Test
    void filesThatDoNotMatchChangeNothing() throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        try (Device device = Device.open("cpu");
                Stream stream = device.createStream();
                Model model = Model.create(device);
                Optimizer saved = model.optimizer(new OptimizerOptions(UpdateRule.ADAMW));
                Optimizer other = model.optimizer(new OptimizerOptions(UpdateRule.ADAMW));
                Optimizer adam = model.optimizer(new OptimizerOptions(UpdateRule.ADAM));
                Optimizer fp8 =
                        model.optimizer(new OptimizerOptions(UpdateRule.ADAMW, StateFormat.FP8))) {
            model.train(saved, 0, 2, stream);
            saved.save(file);
            for (Optimizer optimizer : List.of(other, adam, fp8)) {
                optimizer.hyperparameters().beta1(0.5);
                model.train(optimizer, 0, 1, stream);
            }
            refuses(adam, file, "rule is 'ADAMW'", "'ADAM'");
            refuses(fp8, file, "'a.weight'", "'DYNAMIC8'", "FP8");
            Path changed =
                    changed(
                            file,
                            tensor -> tensor.name().equals("b.bias.v") ? null : tensor,
                            w -> {});
            refuses(other, changed, "'b.bias.v' is missing");
            UnaryOperator<HostTensor> flat =
                    tensor ->
                            tensor.name().equals("a.weight.m")
                                    ? new HostTensor(
                                            tensor.name(),
                                            tensor.type(),
                                            new long[] {33 * 128},
                                            tensor.data())
                                    : tensor;
            refuses(other, changed(file, flat, w -> {}), "U8 [4224]", "U8 [33, 128]");
            UnaryOperator<HostTensor> same = UnaryOperator.identity();
            Path foreign =
                    changed(
                            file,
                            same,
                            writer ->
                                    writer.add(
                                            "c.m",
                                            ElementType.U8,
                                            new long[] {1},
                                            () -> MemorySegment.ofArray(new byte[1])));
            refuses(other, foreign, "'c.m' is none of");
            foreign = changed(file, same, writer -> writer.metadata("state_format:c", "F32"));
            refuses(other, foreign, "parameter 'c' is none of");
            String[][] bad = {
                {"step", "-1"},
                {"step", "1e3"},
                {"skipped_steps", ""},
                {"grad_norm", "big"},
                {"hyper:lr", "fast"},
                {"hyper:flags", "2.5"},
                {"version", "2"},
                {"format", "pt"}
            };
            for (String[] entry : bad) {
                Path path = changed(file, same, writer -> writer.metadata(entry[0], entry[1]));
                refuses(other, path, entry[0].replace("hyper:", ""), "'" + entry[1] + "'");
            }
            Path model2 = folder.resolve("model.safetensors");
            new SafetensorsWriter().write(model2);
            refuses(other, model2, "metadata format is missing");
        }
    }

    @Test
    void truncatedFilesChangeNothing() throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        try (Device device = Device.open("cpu");
                Stream stream = device.createStream();
                Model model = Model.create(device);
                Optimizer saved = model.optimizer(new OptimizerOptions(UpdateRule.ADAMW));
                Optimizer other = model.optimizer(new OptimizerOptions(UpdateRule.ADAMW))) {
            model.train(saved, 0, 2, stream);
            saved.save(file);
            other.hyperparameters().beta1(0.5);
            byte[] whole = Files.readAllBytes(file);
            Path cut = folder.resolve("cut.safetensors");
            for (int length = 0; length < whole.length; length += 1 + length / 3) {
                refuses(other, Files.write(cut, Arrays.copyOf(whole, length)), "cut.safetensors");
            }
            refuses(other, Files.write(cut, Arrays.copyOf(whole, whole.length - 1)), "data");
            assertThrows(IOException.class, () -> other.load(folder.resolve("absent.safetensors")));
        }
    }

    @Test
    void parametersMustBeTheSame() throws IOException {
        Path file = folder.resolve("optimizer.safetensors");
        OptimizerOptions options = new OptimizerOptions(UpdateRule.SCALE);
        try (Device device = Device.open("cpu");
                Model model = Model.create(device);
                Optimizer saved = model.optimizer(options);
                Optimizer fewer =
                        new Model(device, model.parameters().subList(0, 2)).optimizer(options)) {
            // SCALE has no state for two of three parameters, and still knows them.
            saved.save(file);
            fewer.hyperparameters().beta1(0.5);
            refuses(fewer, file, "'b.bias' is none of");
            fewer.save(file);
            saved.hyperparameters().beta1(0.5);
            refuses(saved, file, "'b.bias' is missing");
        }
    }
}
