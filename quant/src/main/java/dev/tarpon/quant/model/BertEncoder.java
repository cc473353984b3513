package dev.tarpon.quant.model;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.stream.IntStream;

/**
 * A BERT sentence encoder: token ids in, unit vectors out.
 *
 * <p>Sentences of a batch are laid end to end, [tokens, hidden], without padding: linear layers see
 * all tokens at once, attention works inside each sentence. The pooled vector is the mean over a
 * sentence's tokens, normalised to length 1, as all-MiniLM-L6-v2 was trained.
 *
 * <p>Not thread-safe: the linear layers may own buffers.
 */
public final class BertEncoder implements AutoCloseable {
    private final BertWeights weights;
    private final BertConfig config;
    private final Map<String, Linear> linears = new LinkedHashMap<>();

    /**
     * Makes an encoder.
     *
     * @param weights all parameters
     * @param makeLinear a layer from its name and matrix; the encoder closes what it makes
     */
    public BertEncoder(BertWeights weights, BiFunction<String, Matrix, Linear> makeLinear) {
        this.weights = weights;
        this.config = weights.config();
        try {
            weights.matrices()
                    .forEach((name, matrix) -> linears.put(name, makeLinear.apply(name, matrix)));
        } catch (RuntimeException failure) {
            close();
            throw failure;
        }
    }

    /** The common part of the names of a layer's parameters. */
    static String layerName(int layer) {
        return "encoder.layer." + layer;
    }

    /** How many linear layers there are. */
    public int linearCount() {
        return linears.size();
    }

    /** What the linear layers' weights take in memory. */
    public long linearWeightBytes() {
        return linears.values().stream().mapToLong(Linear::weightBytes).sum();
    }

    /**
     * Embeds a batch of sentences.
     *
     * @param sentences token ids of each, not empty
     * @return a vector of length 1 for each, [hidden]
     * @throws IllegalArgumentException if a sentence is empty, too long, or has an unknown id
     */
    public float[][] embed(List<int[]> sentences) {
        int[] starts = new int[sentences.size() + 1];
        for (int i = 0; i < sentences.size(); i++) {
            int length = sentences.get(i).length;
            if (length == 0 || length > config.positions()) {
                throw new IllegalArgumentException(
                        "sentence %d has %d tokens; 1 to %d are possible"
                                .formatted(i, length, config.positions()));
            }
            starts[i + 1] = Math.addExact(starts[i], length);
        }
        float[] x = embeddings(sentences, starts);
        for (int layer = 0; layer < config.layers(); layer++) {
            attention(layerName(layer), x, starts);
            feedForward(layerName(layer), x);
        }
        return pool(x, starts);
    }

    private float[] embeddings(List<int[]> sentences, int[] starts) {
        int hidden = config.hidden();
        float[] words = weights.vector("embeddings.word_embeddings.weight");
        float[] positions = weights.vector("embeddings.position_embeddings.weight");
        float[] types = weights.vector("embeddings.token_type_embeddings.weight");
        float[] x = new float[Math.multiplyExact(starts[sentences.size()], hidden)];
        for (int s = 0; s < sentences.size(); s++) {
            int[] ids = sentences.get(s);
            for (int t = 0; t < ids.length; t++) {
                if (ids[t] < 0 || ids[t] >= config.vocabulary()) {
                    throw new IllegalArgumentException(
                            "sentence %d token %d has id %d; the vocabulary has %d"
                                    .formatted(s, t, ids[t], config.vocabulary()));
                }
                int row = (starts[s] + t) * hidden;
                for (int i = 0; i < hidden; i++) {
                    // All tokens are of type 0: there is one sentence a sequence.
                    x[row + i] = words[ids[t] * hidden + i] + types[i] + positions[t * hidden + i];
                }
            }
        }
        layerNorm(x, "embeddings.LayerNorm");
        return x;
    }

    /** x = LayerNorm(x + dense(attention(x))). */
    private void attention(String layer, float[] x, int[] starts) {
        float[] query = linear(layer + ".attention.self.query", x);
        float[] key = linear(layer + ".attention.self.key", x);
        float[] value = linear(layer + ".attention.self.value", x);
        float[] context = new float[x.length];
        IntStream.range(0, starts.length - 1)
                .parallel()
                .forEach(
                        s -> {
                            for (int head = 0; head < config.heads(); head++) {
                                attend(query, key, value, context, starts[s], starts[s + 1], head);
                            }
                        });
        Activations.add(x, linear(layer + ".attention.output.dense", context));
        layerNorm(x, layer + ".attention.output.LayerNorm");
    }

    /** One head of one sentence: softmax(q k^T / sqrt(headDim)) v. */
    private void attend(
            float[] query,
            float[] key,
            float[] value,
            float[] context,
            int from,
            int to,
            int head) {
        int hidden = config.hidden();
        int headDim = config.headDim();
        int column = head * headDim;
        float scale = (float) (1 / Math.sqrt(headDim));
        float[] scores = new float[to - from];
        for (int q = from; q < to; q++) {
            int queryAt = q * hidden + column;
            for (int k = from; k < to; k++) {
                int keyAt = k * hidden + column;
                float dot = 0;
                for (int i = 0; i < headDim; i++) {
                    dot += query[queryAt + i] * key[keyAt + i];
                }
                scores[k - from] = dot * scale;
            }
            Activations.softmax(scores, to - from);
            for (int k = from; k < to; k++) {
                int valueAt = k * hidden + column;
                for (int i = 0; i < headDim; i++) {
                    context[queryAt + i] += scores[k - from] * value[valueAt + i];
                }
            }
        }
    }

    /** x = LayerNorm(x + dense(GELU(dense(x)))). */
    private void feedForward(String layer, float[] x) {
        float[] wide = linear(layer + ".intermediate.dense", x);
        Activations.gelu(wide);
        Activations.add(x, linear(layer + ".output.dense", wide));
        layerNorm(x, layer + ".output.LayerNorm");
    }

    private float[] linear(String name, float[] x) {
        Linear linear = linears.get(name);
        int rows = x.length / linear.inFeatures();
        float[] y = new float[Math.multiplyExact(rows, linear.outFeatures())];
        linear.apply(x, y, rows);
        Activations.addBias(y, weights.vector(name + ".bias"));
        return y;
    }

    private void layerNorm(float[] x, String name) {
        Activations.layerNorm(
                x,
                weights.vector(name + ".weight"),
                weights.vector(name + ".bias"),
                config.layerNormEpsilon());
    }

    private float[][] pool(float[] x, int[] starts) {
        int hidden = config.hidden();
        float[][] pooled = new float[starts.length - 1][hidden];
        for (int s = 0; s < pooled.length; s++) {
            for (int t = starts[s]; t < starts[s + 1]; t++) {
                for (int i = 0; i < hidden; i++) {
                    pooled[s][i] += x[t * hidden + i];
                }
            }
            // The mean's divisor vanishes in the normalisation.
            double squares = 0;
            for (float v : pooled[s]) {
                squares += (double) v * v;
            }
            float inverse = (float) (1 / Math.sqrt(squares));
            for (int i = 0; i < hidden; i++) {
                pooled[s][i] *= inverse;
            }
        }
        return pooled;
    }

    /** Closes the linear layers. */
    @Override
    public void close() {
        linears.values().forEach(Linear::close);
    }
}
