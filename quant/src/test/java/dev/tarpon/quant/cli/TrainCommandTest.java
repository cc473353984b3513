package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.train.Training;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.xml.sax.InputSource;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

import javax.xml.parsers.DocumentBuilderFactory;

/** train as a user calls it, and as a user kills it. */
class TrainCommandTest {
    private static final String[] TINY = {
        "--layers", "1", "--hidden", "64", "--intermediate", "64", "--heads", "1",
        "--kv-heads", "1", "--context", "32", "--batch", "2", "--eval-bytes", "512",
    };

    /** Of the run that is killed; enough for the kills to come in its middle. */
    private static final int STEPS = 50;

    private static final long TIMEOUT_SECONDS = 120;

    @TempDir Path folder;

    private static Object[] train(Object... arguments) {
        List<Object> all = new ArrayList<>(List.of("train"));
        all.addAll(Arrays.asList(TINY));
        all.addAll(Arrays.asList(arguments));
        return all.toArray();
    }

    @Test
    void test_train_writes_a_model_and_a_loss_curve() throws Exception {
        CliRun run = CliRun.of(train("--steps", 12, "--eval-every", 5, "--out", folder)).succeeds();
        assertTrue(run.out().contains("17597 documents"), run.out());
        assertTrue(run.out().contains("step 10: loss "), run.out());
        assertTrue(run.out().contains("perplexity "), run.out());
        assertTrue(run.out().contains("adamw with 8-bit states"), run.out());
        LlamaWeights weights = LlamaWeights.load(folder.resolve("model"));
        assertEquals(256, weights.config().vocabulary());
        assertEquals(64, weights.config().headDim());
        String svg = Files.readString(folder.resolve("loss.svg"));
        var document =
                DocumentBuilderFactory.newInstance()
                        .newDocumentBuilder()
                        .parse(new InputSource(new StringReader(svg)));
        assertEquals(3, document.getElementsByTagName("circle").getLength());
        assertFalse(svg.contains("NaN"), "a point without a place");
        CliRun.of(train("--out", folder)).fails(ExitCode.USAGE, "step-000012", "--resume");
        CliRun again = CliRun.of("train", "--resume", "--out", folder).succeeds();
        assertTrue(again.out().contains("going on after step 12"), again.out());
    }

    /** SIGKILL twice in the middle of steps and checkpoints; no file is lost, no bit differs. */
    @Test
    void test_train_survives_being_killed() throws Exception {
        Path whole = folder.resolve("whole");
        Path killed = folder.resolve("killed");
        Path text = folder.resolve("text");
        Files.writeString(text, "A document of its own.\n\n".repeat(200));
        Object[] options =
                train("--text", text, "--steps", STEPS, "--checkpoint-every", 1, "--out");
        CliRun.of(with(options, whole)).succeeds();

        killAfterStep(5, killed, with(options, killed));
        killAfterStep(20, killed, "train", "--resume", "--checkpoint-every", 1, "--out", killed);
        CliRun.of("train", "--resume", "--out", killed).succeeds();
        for (String file : new String[] {"model.safetensors", "config.json"}) {
            assertArrayEquals(
                    Files.readAllBytes(whole.resolve("model").resolve(file)),
                    Files.readAllBytes(killed.resolve("model").resolve(file)),
                    file);
        }
    }

    private static Object[] with(Object[] options, Path out) {
        Object[] all = Arrays.copyOf(options, options.length + 1);
        all[options.length] = out;
        return all;
    }

    /** Runs a child process until it has a checkpoint of this step or a later one. */
    private void killAfterStep(int step, Path out, Object... arguments) throws Exception {
        Path log = folder.resolve("child.log");
        Process child = start(log, command(arguments));
        try {
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_SECONDS);
            while (newest(out) < step) {
                assertTrue(child.isAlive(), () -> "ended by itself: " + text(log));
                assertTrue(System.nanoTime() < deadline, () -> "too slow: " + text(log));
                Thread.sleep(2);
            }
        } finally {
            child.destroyForcibly().waitFor();
        }
        int left = newest(out);
        assertTrue(left >= step && left < STEPS, "killed in the middle, at step " + left);
    }

    private static Process start(Path log, List<String> command) throws IOException {
        return new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
    }

    /** The command line in a Java process of its own. */
    private static List<String> command(Object... arguments) {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("--enable-native-access=ALL-UNNAMED");
        for (String property :
                new String[] {"dev.tarpon.library.path", "dev.tarpon.models.path", "tarpon.root"}) {
            command.add("-D%s=%s".formatted(property, System.getProperty(property)));
        }
        command.add("-cp");
        command.add(System.getProperty("java.class.path"));
        command.add(Main.class.getName());
        for (Object argument : arguments) {
            command.add(argument.toString());
        }
        return command;
    }

    /**
     * What a full disk does to a checkpoint: the one before it stays, and the run goes on from it.
     */
    @Test
    void test_train_survives_a_full_disk() throws Exception {
        Path out = folder.resolve("out");
        Path text = folder.resolve("text");
        Files.writeString(text, "A document of its own.\n\n".repeat(200));
        Object[] options =
                train("--text", text, "--steps", STEPS, "--checkpoint-every", 2, "--out");
        killAfterStep(2, out, with(options, out));
        int before = newest(out);

        List<String> limited =
                new ArrayList<>(List.of("bash", "-c", "ulimit -f 64; exec \"$@\"", "bash"));
        limited.addAll(command("train", "--resume", "--checkpoint-every", 2, "--out", out));
        Path log = folder.resolve("limited.log");
        Process child = start(log, limited);
        assertTrue(child.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS), () -> text(log));
        assertEquals(ExitCode.FAILURE, child.exitValue(), () -> text(log));
        String message = text(log);
        assertTrue(message.contains("cannot be written"), message);
        assertTrue(message.contains("--resume goes on from " + out), message);
        assertEquals(before, newest(out));
        try (Stream<Path> left = Files.list(out.resolve("checkpoints"))) {
            assertEquals(1, left.count(), "nothing is left of the one that failed");
        }
        CliRun.of("train", "--resume", "--out", out).succeeds();
    }

    private static int newest(Path out) throws IOException {
        Optional<Path> newest = Training.latestCheckpoint(out.resolve("checkpoints"));
        return newest.map(path -> path.getFileName().toString().substring("step-".length()))
                .map(Integer::valueOf)
                .orElse(0);
    }

    private static String text(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            return e.toString();
        }
    }

    @Test
    void test_train_compares_states() {
        CliRun run = CliRun.of(train("--compare-states", "--seeds", 1, "--steps", 4)).succeeds();
        assertTrue(run.out().contains("seed 1, FP8 states: held-out loss"), run.out());
        assertTrue(run.out().contains("mean over 1 seeds"), run.out());
        assertTrue(run.out().contains("+0.000%"), run.out());
        assertTrue(run.out().contains("3.9"), run.out());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "--hidden 100|--hidden 100",
                "--intermediate 0|--intermediate 0",
                "--head-dim 80|--head-dim 80",
                "--heads 3 --kv-heads 2|num_attention_heads 3 is not a multiple",
                "--layers 0|num_hidden_layers 0",
                "--context 0|max_position_embeddings 0",
                "--batch 0|batch 0",
                "--steps 0|steps 0",
                "--steps 9 --warmup 10|warmup 10; it must be from 0 to the 9 steps",
                "--lr -1|lr -1.0",
                "--held-out 1|held-out fraction 1.0",
                "--eval-every 0|eval every 0",
                "--checkpoint-every 0|--checkpoint-every 0",
                "--seeds 0|--seeds 0",
                "--optimizer adamax|'adamax' is not one of",
                "--state 4bit|'4bit' is not one of",
                "--optimizer lion --state fp8|state fp8 is for adam and adamw, not for lion",
                "--hessian-every 0|hessian every 0",
                "--resume --compare-states|--compare-states has no checkpoints",
                "--resume --lr 1|--lr cannot be given with --resume",
                "--beta1 2 --steps 1 --layers 1 --hidden 32|beta1",
                "--device gpu|--device gpu",
            })
    void test_train_refuses(String options, String message) {
        List<Object> arguments = new ArrayList<>(List.of("train", "--out", folder));
        arguments.addAll(Arrays.asList(options.split(" ")));
        CliRun.of(arguments.toArray()).fails(ExitCode.USAGE, message);
    }

    @Test
    void test_train_help_names_every_optimizer() {
        String help = CliRun.of("train", "--help").succeeds().out();
        assertTrue(help.contains("Usage: tarpon train"), help);
        String words = help.replaceAll("\\s+", " ");
        for (UpdateRule rule : UpdateRule.values()) {
            assertTrue(words.contains(rule.name().toLowerCase(Locale.ROOT)), rule.name());
        }
    }

    @Test
    void test_train_names_what_is_missing() throws IOException {
        CliRun.of("train", "--resume", "--out", folder)
                .fails(ExitCode.BAD_INPUT, "there is no checkpoint");
        Path text = folder.resolve("text.txt");
        CliRun.of("train", "--text", text, "--out", folder)
                .fails(ExitCode.BAD_INPUT, text.toString());
        Files.writeString(text, "one paragraph");
        CliRun.of("train", "--text", text, "--out", folder)
                .fails(ExitCode.BAD_INPUT, "1 documents leave");
    }
}
