package dev.tarpon.quant.train;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;

import dev.tarpon.format.AtomicFile;
import dev.tarpon.format.FormatException;
import dev.tarpon.quant.llama.LlamaWeights;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The checkpoints of a run, each a folder step-N with the model in Hugging Face's layout, the
 * optimizer's states, and the run's options and history.
 *
 * <p>A folder is written under another name, and takes its own when all its files are on disk; only
 * then the older ones go. So at any moment there is at least one complete checkpoint once there was
 * one, whatever kills the process.
 */
final class Checkpoints {
    private static final Pattern NAME = Pattern.compile("step-(\\d{1,9})");
    private static final String OPTIMIZER_FILE = "optimizer.safetensors";
    private static final String RUN_FILE = "run.json";
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();

    private final Path folder;

    Checkpoints(Path folder) {
        this.folder = folder;
    }

    /**
     * A run as its file keeps it.
     *
     * @param options what it computes
     * @param history how it went
     */
    record Run(TrainingOptions options, LossHistory history) {}

    /** The newest checkpoint. */
    Optional<Path> latest() throws IOException {
        return complete().stream().max(Comparator.comparingInt(Checkpoints::step));
    }

    private List<Path> complete() throws IOException {
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        try (Stream<Path> entries = Files.list(folder)) {
            return entries.filter(path -> NAME.matcher(path.getFileName().toString()).matches())
                    .toList();
        }
    }

    private static int step(Path checkpoint) {
        return Integer.parseInt(checkpoint.getFileName().toString().substring("step-".length()));
    }

    /**
     * Writes a checkpoint of where the run is, and removes the older ones.
     *
     * @throws IOException if it cannot be written; nothing is left of it then, and the older ones
     *     are
     */
    void save(Run run, TrainableLlama model, ModelOptimizer optimizer) throws IOException {
        Files.createDirectories(folder);
        Path target = folder.resolve("step-%06d".formatted(run.history().steps()));
        Path part = folder.resolve("." + target.getFileName() + ".part");
        delete(part);
        List<Path> older = complete();
        try {
            write(part, run, model, optimizer);
        } catch (IOException failure) {
            delete(part);
            throw new IOException(
                    "checkpoint %s cannot be written: %s; %s"
                            .formatted(
                                    target,
                                    failure.getMessage(),
                                    older.isEmpty()
                                            ? "there is none before it"
                                            : "--resume goes on from " + older.getLast()),
                    failure);
        }
        if (older.contains(target)) {
            delete(part); // the same step of the same run
            return;
        }
        Files.move(part, target, StandardCopyOption.ATOMIC_MOVE);
        force(folder);
        for (Path checkpoint : older) {
            delete(checkpoint);
        }
    }

    private static void write(Path part, Run run, TrainableLlama model, ModelOptimizer optimizer)
            throws IOException {
        Files.createDirectory(part);
        model.weights().save(part);
        optimizer.save(part.resolve(OPTIMIZER_FILE));
        ByteBuffer json = StandardCharsets.UTF_8.encode(GSON.toJson(run));
        AtomicFile.write(
                part.resolve(RUN_FILE),
                channel -> {
                    while (json.hasRemaining()) {
                        channel.write(json);
                    }
                });
        force(part);
    }

    /** Puts a folder's names on disk. */
    private static void force(Path folder) throws IOException {
        try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /**
     * Options and history of a checkpoint.
     *
     * @throws FormatException if they are damaged, or do not fit the checkpoint's name
     */
    static Run read(Path checkpoint) throws IOException {
        Path path = checkpoint.resolve(RUN_FILE);
        Run run;
        try {
            run = GSON.fromJson(Files.readString(path), Run.class);
        } catch (RuntimeException e) { // malformed, or refused by a record's constructor
            throw new FormatException(path.toString(), "is damaged: " + e.getMessage());
        }
        if (run == null || run.options() == null || run.history() == null) {
            throw new FormatException(path.toString(), "lacks options or history");
        }
        if (run.history().steps() != step(checkpoint)) {
            throw new FormatException(
                    path.toString(),
                    "has the losses of %d steps in a checkpoint of step %d"
                            .formatted(run.history().steps(), step(checkpoint)));
        }
        return run;
    }

    /** Puts a checkpoint's parameters and states back. */
    static void restore(Path checkpoint, TrainableLlama model, ModelOptimizer optimizer)
            throws IOException {
        LlamaWeights weights = LlamaWeights.load(checkpoint);
        if (!weights.config().equals(model.config())) {
            throw new FormatException(
                    checkpoint.toString(),
                    "has a model of %s; the run's is %s"
                            .formatted(weights.config(), model.config()));
        }
        model.load(weights);
        optimizer.upload();
        optimizer.load(checkpoint.resolve(OPTIMIZER_FILE));
    }

    private static void delete(Path tree) throws IOException {
        if (!Files.exists(tree)) {
            return;
        }
        Files.walkFileTree(
                tree,
                new SimpleFileVisitor<>() {
                    @Override
                    public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
                            throws IOException {
                        Files.delete(file);
                        return FileVisitResult.CONTINUE;
                    }

                    @Override
                    public FileVisitResult postVisitDirectory(Path directory, IOException failure)
                            throws IOException {
                        if (failure != null) {
                            throw failure;
                        }
                        Files.delete(directory);
                        return FileVisitResult.CONTINUE;
                    }
                });
    }
}
