package dev.tarpon.quant.kv;

import dev.tarpon.format.FormatException;
import dev.tarpon.format.SafetensorsWriter;

import java.util.Map;

/**
 * What a calibration was made of.
 *
 * @param file the calibration's own file, for messages; "" before there is one
 * @param text name of the text's file
 * @param textSha256 of the whole file
 * @param tokens how many of it were run
 * @param window how many in one piece
 * @param modelSha256 of the model's weights
 */
public record CalibrationSource(
        String file, String text, String textSha256, long tokens, int window, String modelSha256) {
    void describe(SafetensorsWriter writer) {
        writer.metadata("text", text)
                .metadata("text_sha256", textSha256)
                .metadata("tokens", Long.toString(tokens))
                .metadata("window", Integer.toString(window))
                .metadata("model_sha256", modelSha256);
    }

    static CalibrationSource read(String file, Map<String, String> metadata)
            throws FormatException {
        for (String key :
                new String[] {"text", "text_sha256", "tokens", "window", "model_sha256"}) {
            if (!metadata.containsKey(key)) {
                throw new FormatException(file, "does not say its " + key);
            }
        }
        try {
            return new CalibrationSource(
                    file,
                    metadata.get("text"),
                    metadata.get("text_sha256"),
                    Long.parseLong(metadata.get("tokens")),
                    Integer.parseInt(metadata.get("window")),
                    metadata.get("model_sha256"));
        } catch (NumberFormatException e) {
            throw new FormatException(
                    file,
                    "tokens is %s and window %s; both are numbers"
                            .formatted(metadata.get("tokens"), metadata.get("window")));
        }
    }

    /**
     * Refuses to evaluate with what was calibrated on the same text.
     *
     * @throws FormatException if the hash is that of the calibration's text
     */
    public void requireOtherText(String name, String sha256) throws FormatException {
        if (sha256.equals(textSha256)) {
            throw new FormatException(
                    file,
                    "was calibrated on %s, and %s is the same text: an evaluation needs another"
                            .formatted(text, name));
        }
    }

    /**
     * Refuses another model's calibration.
     *
     * @throws FormatException if the hash is not that of the calibrated model
     */
    public void requireModel(String name, String sha256) throws FormatException {
        if (!sha256.equals(modelSha256)) {
            throw new FormatException(
                    file,
                    "was calibrated for a model with SHA-256 %s; %s has %s"
                            .formatted(modelSha256, name, sha256));
        }
    }
}
