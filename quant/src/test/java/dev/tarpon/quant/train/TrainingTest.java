package dev.tarpon.quant.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.Device;
import dev.tarpon.format.FormatException;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;
import dev.tarpon.quant.llama.LlamaWeights;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;

/** Runs of a tiny model: they learn, and they go on from a checkpoint with the same bits. */
class TrainingTest {
    private static final LlamaConfig MODEL =
            new LlamaConfig(256, 64, 96, 1, 1, 1, 64, 32, 10000, 1e-5, false);

    @TempDir Path folder;

    /** Sentences of few words, so that a model learns in a few steps what a byte alone leaves. */
    static TextCorpus corpus() throws FormatException {
        String[] words = {"tarpon ", "swims ", "over ", "quiet ", "reefs ", "at dawn. "};
        var random = new Random(3);
        List<String> documents = new ArrayList<>();
        for (int n = 0; n < 200; n++) {
            var text = new StringBuilder();
            for (int word = 0; word < 40; word++) {
                text.append(words[random.nextInt(words.length)]);
            }
            documents.add(text.toString());
        }
        return TextCorpus.split("words", documents, 0.2, 1);
    }

    static TrainingOptions options(UpdateRule rule, StateFormat state, double lr, int steps) {
        Double momentum = rule == UpdateRule.SGD || rule == UpdateRule.LARS ? 0.9 : null;
        var numbers = OptimizerNumbers.DEFAULTS.orElse(null, momentum, null);
        var settings = new OptimizerSettings(rule, state, false, numbers, 1, 5);
        return new TrainingOptions(
                MODEL,
                null,
                0.2,
                4,
                new LearningRate(lr, Math.min(3, steps), steps, 0.1),
                settings,
                1,
                4,
                1024);
    }

    @ParameterizedTest
    @CsvSource({
        "ADAM, DYNAMIC8, 3e-3",
        "ADAMW, F32, 3e-3",
        "ADAMW, DYNAMIC8, 3e-3",
        "ADAMW, FP8, 3e-3",
        "SGD, DYNAMIC8, 0.3",
        "RMSPROP, DYNAMIC8, 3e-3",
        "ADAGRAD, DYNAMIC8, 3e-2",
        "LION, DYNAMIC8, 1e-3",
        "ADEMAMIX, DYNAMIC8, 3e-3",
        "LAMB, DYNAMIC8, 2e-2",
        "LARS, DYNAMIC8, 10",
        "ADABELIEF, DYNAMIC8, 3e-3",
        "SOPHIAG, DYNAMIC8, 1e-3",
        "SCALE, DYNAMIC8, 1e-2",
    })
    void test_train_learns_with(UpdateRule rule, StateFormat state, double lr) throws IOException {
        try (Device device = Device.open("cpu");
                var training =
                        new Training(device, options(rule, state, lr, 40), corpus(), null, 1)) {
            Training.Result result = training.run(new Training.Listener() {});
            // A uniform guess costs 5.55; the frequencies of the bytes alone leave 2.8.
            assertTrue(result.heldOutLoss() < 3.5, "held-out loss " + result.heldOutLoss());
            assertEquals(0, result.skippedSteps());
            assertEquals(Math.exp(result.heldOutLoss()), result.perplexity());
        }
    }

    @ParameterizedTest
    @CsvSource({
        "ADAMW, DYNAMIC8, 3e-3",
        "ADAMW, F32, 3e-3",
        "ADAMW, FP8, 3e-3",
        "SOPHIAG, DYNAMIC8, 1e-3"
    })
    void test_train_resumes_bit_for_bit(UpdateRule rule, StateFormat state, double lr)
            throws IOException {
        TrainingOptions options = options(rule, state, lr, 12);
        LlamaWeights whole;
        double loss;
        try (Device device = Device.open("cpu");
                var training =
                        new Training(device, options, corpus(), folder.resolve("whole"), 4)) {
            loss = training.run(new Training.Listener() {}).heldOutLoss();
            training.saveModel(folder.resolve("model"));
            whole = LlamaWeights.load(folder.resolve("model"));
        }
        Path checkpoints = folder.resolve("broken");
        try (Device device = Device.open("cpu")) {
            interrupt(device, options, checkpoints, 11, null);
            Path newest = Training.latestCheckpoint(checkpoints).orElseThrow();
            assertEquals("step-000008", newest.getFileName().toString());
            interrupt(device, options, checkpoints, 10, newest);
            try (var training = new Training(device, options, corpus(), checkpoints, 4)) {
                training.resume(newest);
                assertEquals(8, training.stepsDone());
                assertEquals(loss, training.run(new Training.Listener() {}).heldOutLoss());
                training.saveModel(folder.resolve("resumed"));
            }
        }
        LlamaWeights resumed = LlamaWeights.load(folder.resolve("resumed"));
        for (String name : MODEL.parameterShapes().keySet()) {
            assertArrayEquals(whole.values(name), resumed.values(name), name);
        }
        for (String file : new String[] {"run.json", "optimizer.safetensors"}) {
            assertArrayEquals(
                    Files.readAllBytes(folder.resolve("whole/step-000012").resolve(file)),
                    Files.readAllBytes(checkpoints.resolve("step-000012").resolve(file)),
                    file);
        }
    }

    /** Runs until a step and ends there, as if something had thrown. */
    private static void interrupt(
            Device device, TrainingOptions options, Path checkpoints, int atStep, Path from)
            throws IOException {
        try (var training = new Training(device, options, corpus(), checkpoints, 4)) {
            if (from != null) {
                training.resume(from);
            }
            var listener =
                    new Training.Listener() {
                        @Override
                        public void onStep(int step, double loss) {
                            if (step == atStep) {
                                throw new IllegalStateException("interrupted");
                            }
                        }
                    };
            assertThrows(IllegalStateException.class, () -> training.run(listener));
        }
    }

    @Test
    void test_train_checkpoints_ignore_what_is_not_complete() throws IOException {
        TrainingOptions options = options(UpdateRule.ADAMW, StateFormat.DYNAMIC8, 1e-3, 4);
        Path checkpoints = folder.resolve("checkpoints");
        Files.createDirectories(checkpoints.resolve(".step-000004.part"));
        Files.writeString(checkpoints.resolve(".step-000004.part/run.json"), "half");
        Files.createDirectories(checkpoints.resolve("step-000002"));
        Files.createDirectories(checkpoints.resolve("step-x"));
        try (Device device = Device.open("cpu");
                var training = new Training(device, options, corpus(), checkpoints, 4)) {
            training.run(new Training.Listener() {});
        }
        try (Stream<Path> left = Files.list(checkpoints)) {
            assertEquals(
                    List.of("step-000004", "step-x"),
                    left.map(path -> path.getFileName().toString()).sorted().toList());
        }
        Path newest = Training.latestCheckpoint(checkpoints).orElseThrow();
        assertEquals(options, Training.optionsOf(newest));
        TrainingOptions other = options(UpdateRule.ADAMW, StateFormat.F32, 1e-3, 4);
        refuses(other, newest, "is of a run with");
        Path run = newest.resolve("run.json");
        String text = Files.readString(run);
        Files.writeString(run, text.replace("\"training\":[", "\"training\":[5.5,"));
        refuses(options, newest, "losses of 5 steps in a checkpoint of step 4");
        Files.writeString(run, text.replace("\"layers\":1", "\"layers\":-1"));
        refuses(options, newest, "is damaged");
        Files.writeString(run, text.substring(0, 100));
        refuses(options, newest, "is damaged");
        Files.writeString(run, "{}");
        refuses(options, newest, "lacks options or history");
    }

    /** A file that was cut off, or lost, is named; nothing of it is taken over. */
    @Test
    void test_train_refuses_damaged_checkpoints() throws IOException {
        TrainingOptions options = options(UpdateRule.ADAMW, StateFormat.DYNAMIC8, 1e-3, 2);
        try (Device device = Device.open("cpu");
                var training = new Training(device, options, corpus(), folder, 1)) {
            training.run(new Training.Listener() {});
        }
        Path checkpoint = Training.latestCheckpoint(folder).orElseThrow();
        for (String name :
                new String[] {"model.safetensors", "optimizer.safetensors", "config.json"}) {
            Path file = checkpoint.resolve(name);
            byte[] whole = Files.readAllBytes(file);
            // JSON may do without its last character, a line's end.
            for (int length : new int[] {0, 5, whole.length / 2, whole.length - 2}) {
                Files.write(file, Arrays.copyOf(whole, length));
                refuses(options, checkpoint, name);
            }
            Files.delete(file);
            try (Device device = Device.open("cpu");
                    var training = new Training(device, options, corpus(), null, 1)) {
                var failure = assertThrows(IOException.class, () -> training.resume(checkpoint));
                assertTrue(failure.getMessage().contains(name), failure.toString());
            }
            Files.write(file, whole);
        }
        try (Device device = Device.open("cpu");
                var training = new Training(device, options, corpus(), null, 1)) {
            training.resume(checkpoint);
            assertEquals(2, training.stepsDone());
        }
    }

    private static void refuses(TrainingOptions options, Path checkpoint, String message)
            throws IOException {
        try (Device device = Device.open("cpu");
                var training = new Training(device, options, corpus(), null, 1)) {
            var failure = assertThrows(FormatException.class, () -> training.resume(checkpoint));
            assertTrue(failure.getMessage().contains(message), failure.getMessage());
        }
    }

    @Test
    void test_train_states_take_a_quarter() throws IOException {
        long[] bytes = new long[StateFormat.values().length];
        try (Device device = Device.open("cpu")) {
            for (StateFormat format : StateFormat.values()) {
                TrainingOptions options = options(UpdateRule.ADAMW, format, 1e-3, 1);
                try (var training = new Training(device, options, corpus(), null, 1)) {
                    bytes[format.ordinal()] = training.run(new Training.Listener() {}).stateBytes();
                }
            }
        }
        long norms = 3 * 64;
        long others = MODEL.parameterCount() - norms;
        assertEquals(8 * (norms + others), bytes[StateFormat.F32.ordinal()]);
        // A byte for each of two states, and a float for each block of 256; groups of 128 have two.
        assertEquals(
                8 * norms + 2 * others + 2 * 4 * others / 256,
                bytes[StateFormat.DYNAMIC8.ordinal()]);
        assertEquals(
                8 * norms + 2 * others + 2 * 8 * others / 128, bytes[StateFormat.FP8.ordinal()]);
    }

    @Test
    void test_train_stops_when_the_loss_is_no_number() throws IOException {
        TrainingOptions options = options(UpdateRule.ADAMW, StateFormat.DYNAMIC8, 1e-3, 8);
        try (Device device = Device.open("cpu")) {
            interrupt(device, options, folder, 5, null);
            Path checkpoint = Training.latestCheckpoint(folder).orElseThrow();
            LlamaWeights weights = LlamaWeights.load(checkpoint);
            weights.values(LlamaNames.FINAL_NORM)[3] = Float.NaN;
            weights.save(checkpoint);
            try (var training = new Training(device, options, corpus(), folder, 4)) {
                training.resume(checkpoint);
                var failure =
                        assertThrows(
                                ArithmeticException.class,
                                () -> training.run(new Training.Listener() {}));
                assertTrue(
                        failure.getMessage().contains("the loss of step 5 is NaN"),
                        failure.getMessage());
            }
        }
    }

    @Test
    void test_train_comparison_pairs_the_runs_of_a_seed() throws IOException {
        TrainingOptions options = options(UpdateRule.ADAMW, StateFormat.DYNAMIC8, 3e-3, 20);
        List<String> runs = new ArrayList<>();
        var listener =
                new StateComparison.Listener() {
                    @Override
                    public void onRun(long seed, StateFormat format) {
                        runs.add(seed + " " + format);
                    }

                    @Override
                    public void onResult(long seed, StateFormat format, Training.Result result) {}
                };
        List<StateComparison.Row> rows;
        try (Device device = Device.open("cpu")) {
            rows = StateComparison.run(device, options, 2, each -> corpus(), listener);
        }
        assertEquals(List.of("1 F32", "1 DYNAMIC8", "1 FP8", "2 F32", "2 DYNAMIC8", "2 FP8"), runs);
        StateComparison.Row exact = rows.getFirst();
        for (StateComparison.Row row : rows) {
            for (int seed = 0; seed < 2; seed++) {
                // A tiny model after 20 steps: far closer than seeds are to one another.
                assertEquals(exact.losses().get(seed), row.losses().get(seed), 0.03);
            }
            assertTrue(!row.losses().get(0).equals(row.losses().get(1)), "seeds differ");
        }
    }
}
