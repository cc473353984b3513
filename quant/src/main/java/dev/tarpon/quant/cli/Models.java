package dev.tarpon.quant.cli;

import dev.tarpon.format.FormatException;
import dev.tarpon.quant.kv.Sha256;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaWeights;

import java.io.IOException;
import java.nio.file.Path;

/** The models of the commands around the KV cache: Llama-style, of bytes. */
final class Models {
    /** A token is a byte. */
    private static final int VOCABULARY = 256;

    private Models() {}

    /**
     * Reads a folder in Hugging Face's layout.
     *
     * @throws FormatException if it is no such model, or its tokens are no bytes
     */
    static LlamaWeights load(Path folder) throws IOException {
        LlamaWeights weights = LlamaWeights.load(folder);
        LlamaConfig config = weights.config();
        if (config.vocabulary() != VOCABULARY) {
            throw new FormatException(
                    folder.toString(),
                    "has a vocabulary of %d; models of bytes, with %d, are supported"
                            .formatted(config.vocabulary(), VOCABULARY));
        }
        return weights;
    }

    /** By which a model is recognised. */
    static String sha256(Path folder) throws IOException {
        return Sha256.of(folder.resolve("model.safetensors"));
    }
}
