package dev.tarpon.quant.model;

/**
 * The shape of a BERT encoder.
 *
 * @param layers how many transformer layers
 * @param hidden width of the residual stream
 * @param heads attention heads; hidden is divisible by it
 * @param feedForward width between the two linears of the feed-forward part
 * @param vocabulary how many token ids there are
 * @param positions longest sequence
 * @param layerNormEpsilon added to the variance
 */
public record BertConfig(
        int layers,
        int hidden,
        int heads,
        int feedForward,
        int vocabulary,
        int positions,
        float layerNormEpsilon) {

    /** sentence-transformers/all-MiniLM-L6-v2, from its config.json. */
    public static final BertConfig ALL_MINILM_L6_V2 =
            new BertConfig(6, 384, 12, 1536, 30522, 512, 1e-12f);

    /** Checks what the arithmetic relies on. */
    public BertConfig {
        if (layers < 1 || hidden < 1 || heads < 1 || feedForward < 1 || hidden % heads != 0) {
            throw new IllegalArgumentException(
                    "layers %d, hidden %d, heads %d, feedForward %d"
                            .formatted(layers, hidden, heads, feedForward));
        }
    }

    /** Width of one attention head. */
    public int headDim() {
        return hidden / heads;
    }
}
