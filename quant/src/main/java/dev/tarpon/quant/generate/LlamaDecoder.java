package dev.tarpon.quant.generate;

import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.model.FloatLinear;
import dev.tarpon.quant.model.Linear;
import dev.tarpon.quant.model.Matrix;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/**
 * The forward pass of a Llama model over new tokens of a batch of sequences. Linear layers are made
 * by the caller, attention is given to each call; norms, SwiGLU and the residual stream are Java in
 * fp32. The output layer stays in fp32: it is the embedding's matrix where the two are tied.
 *
 * <p>Not thread-safe: the linear layers may own buffers.
 */
public final class LlamaDecoder implements AutoCloseable {
    private final LlamaConfig config;
    private final float[] embedding;
    private final float[] finalNorm;
    private final List<Layer> layers = new ArrayList<>();
    private final Linear output;

    /** One transformer layer. */
    private record Layer(
            float[] inputNorm,
            Linear query,
            Linear key,
            Linear value,
            Linear attentionOutput,
            float[] postAttentionNorm,
            Linear gate,
            Linear up,
            Linear down) {
        List<Linear> linears() {
            return List.of(query, key, value, attentionOutput, gate, up, down);
        }
    }

    /**
     * Makes a decoder.
     *
     * @param makeLinear a layer from its matrix; the decoder closes what it makes
     */
    public LlamaDecoder(LlamaWeights weights, Function<Matrix, Linear> makeLinear) {
        config = weights.config();
        embedding = weights.values(LlamaNames.EMBEDDING);
        finalNorm = weights.values(LlamaNames.FINAL_NORM);
        List<Linear> made = new ArrayList<>();
        try {
            for (int layer = 0; layer < config.layers(); layer++) {
                layers.add(layer(weights, layer, makeLinear, made));
            }
        } catch (RuntimeException failure) {
            made.forEach(Linear::close);
            throw failure;
        }
        output = new FloatLinear(weights.matrix(weights.outputName()));
    }

    private static Layer layer(
            LlamaWeights weights,
            int layer,
            Function<Matrix, Linear> makeLinear,
            List<Linear> made) {
        Function<LlamaNames, Linear> linear =
                name -> {
                    made.add(makeLinear.apply(weights.matrix(name.of(layer))));
                    return made.getLast();
                };
        return new Layer(
                weights.values(LlamaNames.INPUT_NORM.of(layer)),
                linear.apply(LlamaNames.QUERY),
                linear.apply(LlamaNames.KEY),
                linear.apply(LlamaNames.VALUE),
                linear.apply(LlamaNames.ATTENTION_OUTPUT),
                weights.values(LlamaNames.POST_ATTENTION_NORM.of(layer)),
                linear.apply(LlamaNames.GATE),
                linear.apply(LlamaNames.UP),
                linear.apply(LlamaNames.DOWN));
    }

    public LlamaConfig config() {
        return config;
    }

    /** What the linear layers' weights take in memory, the output layer left out. */
    public long linearWeightBytes() {
        return layers.stream()
                .flatMap(layer -> layer.linears().stream())
                .mapToLong(Linear::weightBytes)
                .sum();
    }

    /**
     * Runs new tokens of all sequences.
     *
     * @param tokens ids [batch, count], each in 0..vocabulary-1
     * @return the logits of the token after each, [batch, count, vocabulary]
     * @throws IllegalArgumentException if an id is unknown or a sequence would be too long
     */
    public float[] forward(int[] tokens, Attention attention) {
        int count = tokens.length / attention.batch();
        if (tokens.length == 0 || tokens.length % attention.batch() != 0) {
            throw new IllegalArgumentException(
                    "%d tokens for %d sequences; each takes the same number, 1 or more"
                            .formatted(tokens.length, attention.batch()));
        }
        if (attention.length() + count > config.positions()) {
            throw new IllegalArgumentException(
                    "%d tokens behind %d; the model has %d positions"
                            .formatted(count, attention.length(), config.positions()));
        }
        float[] x = embed(tokens);
        for (int layer = 0; layer < layers.size(); layer++) {
            attention.layerInput(layer, count, x);
            attend(layer, x, count, attention);
            feedForward(layers.get(layer), x);
        }
        return apply(output, Norms.rms(x, finalNorm, config.rmsNormEpsilon()));
    }

    private float[] embed(int[] tokens) {
        int hidden = config.hidden();
        float[] x = new float[Math.multiplyExact(tokens.length, hidden)];
        for (int i = 0; i < tokens.length; i++) {
            if (tokens[i] < 0 || tokens[i] >= config.vocabulary()) {
                throw new IllegalArgumentException(
                        "token %d has id %d; the vocabulary has %d"
                                .formatted(i, tokens[i], config.vocabulary()));
            }
            System.arraycopy(embedding, tokens[i] * hidden, x, i * hidden, hidden);
        }
        return x;
    }

    /** x += dense(attention(norm(x))). */
    private void attend(int index, float[] x, int count, Attention attention) {
        Layer layer = layers.get(index);
        float[] normed = Norms.rms(x, layer.inputNorm(), config.rmsNormEpsilon());
        float[] q = apply(layer.query(), normed);
        float[] k = apply(layer.key(), normed);
        float[] v = apply(layer.value(), normed);
        float[] o = new float[q.length];
        attention.step(index, count, q, k, v, o);
        add(x, apply(layer.attentionOutput(), o));
    }

    /** x += down(silu(gate(norm(x))) * up(norm(x))). */
    private void feedForward(Layer layer, float[] x) {
        float[] normed = Norms.rms(x, layer.postAttentionNorm(), config.rmsNormEpsilon());
        float[] gate = apply(layer.gate(), normed);
        float[] up = apply(layer.up(), normed);
        for (int i = 0; i < gate.length; i++) {
            gate[i] = (float) (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
        }
        add(x, apply(layer.down(), gate));
    }

    private static float[] apply(Linear linear, float[] x) {
        int rows = x.length / linear.inFeatures();
        float[] y = new float[Math.multiplyExact(rows, linear.outFeatures())];
        linear.apply(x, y, rows);
        return y;
    }

    private static void add(float[] x, float[] y) {
        for (int i = 0; i < x.length; i++) {
            x[i] += y[i];
        }
    }

    /** Closes the linear layers. */
    @Override
    public void close() {
        layers.forEach(layer -> layer.linears().forEach(Linear::close));
        output.close();
    }
}
