package dev.tarpon.quant.llama;

import dev.tarpon.format.Shapes;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The shape of a Llama-style language model: RMSNorm, rotary positions in the half layout (element
 * i of a head turns with i + headDim / 2), grouped-query attention, SwiGLU, no biases. The names
 * are those of Hugging Face's config.json, which {@link LlamaConfigFile} reads and writes.
 *
 * @param vocabulary how many token ids there are; 256 where tokens are bytes
 * @param hidden width of the residual stream
 * @param intermediate width between the linears of the feed-forward part
 * @param layers how many transformer layers
 * @param queryHeads attention heads
 * @param keyValueHeads heads of keys and values; each serves queryHeads / keyValueHeads heads
 * @param headDim width of a head; even
 * @param positions longest sequence
 * @param ropeTheta base of the rotary frequencies: pair i turns by theta^(-2 i / headDim) a token
 * @param rmsNormEpsilon added to the mean square
 * @param tiedEmbeddings whether the output layer is the embedding's matrix
 */
public record LlamaConfig(
        int vocabulary,
        int hidden,
        int intermediate,
        int layers,
        int queryHeads,
        int keyValueHeads,
        int headDim,
        int positions,
        double ropeTheta,
        double rmsNormEpsilon,
        boolean tiedEmbeddings) {

    /** Checks what the arithmetic relies on. */
    public LlamaConfig {
        requirePositive("vocab_size", vocabulary);
        requirePositive("hidden_size", hidden);
        requirePositive("intermediate_size", intermediate);
        requirePositive("num_hidden_layers", layers);
        requirePositive("num_attention_heads", queryHeads);
        requirePositive("num_key_value_heads", keyValueHeads);
        requirePositive("head_dim", headDim);
        requirePositive("max_position_embeddings", positions);
        if (queryHeads % keyValueHeads != 0) {
            throw new IllegalArgumentException(
                    "num_attention_heads %d is not a multiple of num_key_value_heads %d"
                            .formatted(queryHeads, keyValueHeads));
        }
        if (headDim % 2 != 0) {
            throw new IllegalArgumentException(
                    "head_dim %d is odd; rotary positions turn pairs".formatted(headDim));
        }
        if (!(ropeTheta > 0) || Double.isInfinite(ropeTheta)) {
            throw new IllegalArgumentException(
                    "rope_theta %s; it must be finite and > 0".formatted(ropeTheta));
        }
        if (!(rmsNormEpsilon > 0) || Double.isInfinite(rmsNormEpsilon)) {
            throw new IllegalArgumentException(
                    "rms_norm_eps %s; it must be finite and > 0".formatted(rmsNormEpsilon));
        }
    }

    private static void requirePositive(String name, int value) {
        if (value < 1) {
            throw new IllegalArgumentException("%s %d; it must be >= 1".formatted(name, value));
        }
    }

    /** Width of all query heads together. */
    public int queryWidth() {
        return Math.multiplyExact(queryHeads, headDim);
    }

    /** Width of all key heads together, and of all value heads. */
    public int keyValueWidth() {
        return Math.multiplyExact(keyValueHeads, headDim);
    }

    /** How many query heads share a head of keys and values. */
    public int groupHeads() {
        return queryHeads / keyValueHeads;
    }

    /**
     * Every parameter's full name and shape, in the order of the model. Matrices are [outFeatures,
     * inFeatures]; the embedding is [vocabulary, hidden]; norms are [hidden].
     */
    public Map<String, long[]> parameterShapes() {
        var shapes = new LinkedHashMap<String, long[]>();
        shapes.put(LlamaNames.EMBEDDING, new long[] {vocabulary, hidden});
        for (int layer = 0; layer < layers; layer++) {
            shapes.put(LlamaNames.INPUT_NORM.of(layer), new long[] {hidden});
            shapes.put(LlamaNames.QUERY.of(layer), new long[] {queryWidth(), hidden});
            shapes.put(LlamaNames.KEY.of(layer), new long[] {keyValueWidth(), hidden});
            shapes.put(LlamaNames.VALUE.of(layer), new long[] {keyValueWidth(), hidden});
            shapes.put(LlamaNames.ATTENTION_OUTPUT.of(layer), new long[] {hidden, queryWidth()});
            shapes.put(LlamaNames.POST_ATTENTION_NORM.of(layer), new long[] {hidden});
            shapes.put(LlamaNames.GATE.of(layer), new long[] {intermediate, hidden});
            shapes.put(LlamaNames.UP.of(layer), new long[] {intermediate, hidden});
            shapes.put(LlamaNames.DOWN.of(layer), new long[] {hidden, intermediate});
        }
        shapes.put(LlamaNames.FINAL_NORM, new long[] {hidden});
        if (!tiedEmbeddings) {
            shapes.put(LlamaNames.OUTPUT, new long[] {vocabulary, hidden});
        }
        return Collections.unmodifiableMap(shapes);
    }

    /** How many parameters there are. */
    public long parameterCount() {
        return parameterShapes().values().stream().mapToLong(Shapes::elements).sum();
    }
}
