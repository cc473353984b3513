package dev.tarpon.quant.cli;

import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.train.LearningRate;
import dev.tarpon.quant.train.OptimizerSettings;
import dev.tarpon.quant.train.TrainingOptions;

import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

import java.nio.file.Path;
import java.util.Set;

/** The options of {@code train} that decide what a run computes; a checkpoint keeps them. */
final class TrainOptions {
    /** A token is a byte. */
    private static final int VOCABULARY = 256;

    private static final double ROPE_THETA = 10000;
    private static final double RMS_NORM_EPSILON = 1e-5;
    private static final double FINAL_LR_FRACTION = 0.1;

    /** The widths that the library's KV cache has kernels for. */
    private static final Set<Integer> HEAD_DIMS = Set.of(64, 96, 128, 256);

    /** What the quantised linear layers need of their input features. */
    private static final int FEATURE_MULTIPLE = 32;

    @Option(
            names = "--text",
            paramLabel = "FILE",
            description =
                    "A UTF-8 text to learn from; blank lines separate its documents. Default: the"
                            + " Europarl speeches that the build has fetched.")
    private Path text;

    @Option(
            names = "--held-out",
            paramLabel = "FRACTION",
            defaultValue = "0.02",
            description = "Part of the documents that is never trained on. Default: 0.02.")
    private double heldOut;

    @Option(
            names = "--layers",
            paramLabel = "N",
            defaultValue = "4",
            description = "Transformer layers. Default: 4.")
    private int layers;

    @Option(
            names = "--hidden",
            paramLabel = "N",
            defaultValue = "256",
            description = "Width of the residual stream, a multiple of 32. Default: 256.")
    private int hidden;

    @Option(
            names = "--intermediate",
            paramLabel = "N",
            defaultValue = "704",
            description = "Width of the SwiGLU, a multiple of 32. Default: 704.")
    private int intermediate;

    @Option(
            names = "--heads",
            paramLabel = "N",
            defaultValue = "4",
            description = "Attention heads. Default: 4.")
    private int heads;

    @Option(
            names = "--kv-heads",
            paramLabel = "N",
            defaultValue = "2",
            description = "Heads of keys and values. Default: 2.")
    private int kvHeads;

    @Option(
            names = "--head-dim",
            paramLabel = "N",
            defaultValue = "64",
            description = "Width of a head: 64, 96, 128 or 256. Default: 64.")
    private int headDim;

    @Option(
            names = "--context",
            paramLabel = "BYTES",
            defaultValue = "256",
            description = "Length of a window of text. Default: 256.")
    private int context;

    @Option(
            names = "--batch",
            paramLabel = "N",
            defaultValue = "4",
            description = "Windows a step. Default: 4.")
    private int batch;

    @Option(
            names = "--steps",
            paramLabel = "N",
            defaultValue = "600",
            description = "Steps of the whole run. Default: 600.")
    private int steps;

    @Option(
            names = "--warmup",
            paramLabel = "N",
            description = "Steps in which the learning rate rises. Default: a tenth of --steps.")
    private Integer warmup;

    @Mixin private OptimizerFlags optimizer;

    @Option(
            names = "--embedding-state-32bit",
            description = "Keep the embedding's states in 32 bits.")
    private boolean embeddingState32;

    @Option(
            names = "--seed",
            paramLabel = "SEED",
            defaultValue = "1",
            description = "Seed of the split, the weights and the windows. Default: 1.")
    private long seed;

    @Option(
            names = "--eval-every",
            paramLabel = "N",
            defaultValue = "100",
            description = "Steps between two measurements on held-out text. Default: 100.")
    private int evaluateEvery;

    @Option(
            names = "--eval-bytes",
            paramLabel = "N",
            defaultValue = "65536",
            description =
                    "Held-out text of the last measurement; the others take an eighth. Default:"
                            + " 65536.")
    private int evaluateBytes;

    /** The options as a run takes them; a usage error if they do not fit together. */
    TrainingOptions build(CommandSpec spec) {
        requireMultiple(spec, "--hidden", hidden);
        requireMultiple(spec, "--intermediate", intermediate);
        if (!HEAD_DIMS.contains(headDim)) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--head-dim %d: the KV cache has 64, 96, 128 and 256".formatted(headDim));
        }
        try {
            return new TrainingOptions(
                    new LlamaConfig(
                            VOCABULARY,
                            hidden,
                            intermediate,
                            layers,
                            heads,
                            kvHeads,
                            headDim,
                            context,
                            ROPE_THETA,
                            RMS_NORM_EPSILON,
                            false),
                    text == null ? null : text.toAbsolutePath().toString(),
                    heldOut,
                    batch,
                    new LearningRate(
                            optimizer.lr() == null ? defaultRate(optimizer.rule()) : optimizer.lr(),
                            warmup == null ? steps / 10 : warmup,
                            steps,
                            FINAL_LR_FRACTION),
                    settings(),
                    seed,
                    evaluateEvery,
                    evaluateBytes);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage(), e);
        }
    }

    private OptimizerSettings settings() {
        UpdateRule rule = optimizer.rule();
        boolean moments = rule == UpdateRule.ADAM || rule == UpdateRule.ADAMW;
        boolean hasMomentum = rule == UpdateRule.SGD || rule == UpdateRule.LARS;
        return new OptimizerSettings(
                rule,
                optimizer.state(),
                embeddingState32,
                optimizer
                        .numbers()
                        .orElse(
                                // 0.999 looks back over more steps than a short run has.
                                moments ? Double.valueOf(0.95) : null,
                                hasMomentum ? Double.valueOf(0.9) : null,
                                rule == UpdateRule.ADAMW ? Double.valueOf(0.1) : null),
                optimizer.maxGradNorm() == null ? 1 : optimizer.maxGradNorm(),
                optimizer.hessianEvery());
    }

    /**
     * The best of three rates a factor of 3 apart, for a model of 2 layers of 64 after 200 steps of
     * 4 windows of 64 bytes with 8-bit states; for Adam and AdamW a little less than that, since
     * the default model is larger.
     */
    private static double defaultRate(UpdateRule rule) {
        return switch (rule) {
            case ADAM, ADAMW -> 2e-3;
            case ADABELIEF, ADEMAMIX, RMSPROP, SOPHIAG, LION -> 1e-3;
            case ADAGRAD, SCALE -> 1e-2;
            case LAMB -> 3e-2;
            case SGD -> 0.1;
            case LARS -> 10;
        };
    }

    private static void requireMultiple(CommandSpec spec, String option, int value) {
        if (value < 1 || value % FEATURE_MULTIPLE != 0) {
            throw new ParameterException(
                    spec.commandLine(),
                    "%s %d: it must be a multiple of %d, as quantised linear layers need it"
                            .formatted(option, value, FEATURE_MULTIPLE));
        }
    }
}
