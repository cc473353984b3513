package dev.tarpon.quant.llama;

/**
 * The names of a Llama model's parameters in files, as Hugging Face's LlamaForCausalLM has them.
 */
public enum LlamaNames {
    /** The norm before attention. */
    INPUT_NORM("input_layernorm"),
    QUERY("self_attn.q_proj"),
    KEY("self_attn.k_proj"),
    VALUE("self_attn.v_proj"),
    ATTENTION_OUTPUT("self_attn.o_proj"),
    /** The norm before the feed-forward part. */
    POST_ATTENTION_NORM("post_attention_layernorm"),
    GATE("mlp.gate_proj"),
    UP("mlp.up_proj"),
    DOWN("mlp.down_proj");

    /** The token embedding, and the output layer where the two are tied. */
    public static final String EMBEDDING = "model.embed_tokens.weight";

    /** The norm after the last layer. */
    public static final String FINAL_NORM = "model.norm.weight";

    /** The output layer where it is not tied to the embedding. */
    public static final String OUTPUT = "lm_head.weight";

    private final String part;

    LlamaNames(String part) {
        this.part = part;
    }

    /** The full name in a layer, such as model.layers.3.self_attn.q_proj.weight. */
    public String of(int layer) {
        return "model.layers.%d.%s.weight".formatted(layer, part);
    }
}
