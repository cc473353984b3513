package dev.tarpon.quant.kvreport;

import dev.tarpon.quant.demo.SentencePairs;
import dev.tarpon.quant.kv.MassiveActivations;
import dev.tarpon.quant.model.BertConfig;
import dev.tarpon.quant.model.BertEncoder;
import dev.tarpon.quant.model.BertWeights;
import dev.tarpon.quant.model.FloatLinear;
import dev.tarpon.quant.model.Linear;
import dev.tarpon.quant.model.Matrix;
import dev.tarpon.quant.tokenizer.WordPieceTokenizer;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Queries, keys and values of all-MiniLM-L6-v2 on the demo's sentences.
 *
 * <p>Its heads have 32 channels, half of what the cache's smallest have. So two of its heads count
 * as one head of keys and values here, and each of its query heads becomes one of 64 channels of
 * which the other head's half is zero: scores are the same, and of an output the half that belongs
 * to the head is what the model has. (The other half is measured, too: the neighbour's values under
 * this head's attention.) It has no rotary positions, and its attention is not causal.
 */
public final class BertData {
    /** Tokens of a passage of sentences. */
    private static final int PASSAGE = 192;

    private static final int HEAD_DIM = 64;

    /** Behind a layer's name: what went into it. */
    private static final String INPUT = ".input";

    private BertData() {}

    /**
     * Data of all layers.
     *
     * @param measured of each layer, passages to measure on
     * @param calibration of each layer, other passages
     */
    public record Layers(List<List<LayerData>> measured, List<List<LayerData>> calibration) {}

    /** Runs the encoder over the sentences. */
    public static Layers of(Path model, Path tokenizer) throws IOException {
        BertWeights weights = BertWeights.fromOnnx(model, BertConfig.ALL_MINILM_L6_V2);
        Map<String, float[]> recorded = new HashMap<>();
        List<List<LayerData>> measured = new ArrayList<>();
        List<List<LayerData>> calibration = new ArrayList<>();
        int layers = weights.config().layers();
        for (int layer = 0; layer < layers; layer++) {
            measured.add(new ArrayList<>());
            calibration.add(new ArrayList<>());
        }
        try (var encoder =
                new BertEncoder(
                        weights,
                        (name, matrix) ->
                                name.contains(".attention.self.")
                                        ? new Recorder(
                                                matrix,
                                                weights.vector(name + ".bias"),
                                                (x, y) -> {
                                                    recorded.put(name, y);
                                                    recorded.put(name + INPUT, x);
                                                })
                                        : new FloatLinear(matrix))) {
            List<int[]> passages = passages(WordPieceTokenizer.load(tokenizer));
            for (int i = 0; i < passages.size(); i++) {
                encoder.embed(List.of(passages.get(i)));
                for (int layer = 0; layer < layers; layer++) {
                    LayerData data = data(weights.config(), recorded, layer);
                    (i % 2 == 0 ? measured : calibration).get(layer).add(data);
                }
            }
        }
        return new Layers(measured, calibration);
    }

    /** The sentences end to end, without the tokens that mark begin and end inside a passage. */
    private static List<int[]> passages(WordPieceTokenizer tokenizer) throws IOException {
        List<int[]> passages = new ArrayList<>();
        List<Integer> passage = new ArrayList<>();
        for (SentencePairs.Pair pair : SentencePairs.load()) {
            for (String sentence : List.of(pair.first(), pair.second())) {
                int[] ids = tokenizer.encode(sentence);
                if (passage.size() + ids.length > PASSAGE) {
                    passages.add(passage.stream().mapToInt(Integer::intValue).toArray());
                    passage.clear();
                }
                if (!passage.isEmpty()) {
                    passage.removeLast(); // its end; the sentence's own comes behind it
                }
                for (int j = passage.isEmpty() ? 0 : 1; j < ids.length; j++) {
                    passage.add(ids[j]);
                }
            }
        }
        return passages;
    }

    private static LayerData data(BertConfig config, Map<String, float[]> recorded, int layer) {
        String prefix = "encoder.layer." + layer + ".attention.self.";
        float[] query = recorded.get(prefix + "query");
        int hidden = config.hidden();
        int tokens = query.length / hidden;
        int heads = config.heads();
        float[] q = new float[tokens * heads * HEAD_DIM];
        for (int t = 0; t < tokens; t++) {
            for (int head = 0; head < heads; head++) {
                int dim = config.headDim();
                int half = head % 2 * dim;
                int to = (t * heads + head) * HEAD_DIM + half;
                System.arraycopy(query, t * hidden + head * dim, q, to, dim);
            }
        }
        return new LayerData(
                tokens,
                heads,
                heads / 2,
                HEAD_DIM,
                q,
                recorded.get(prefix + "key"),
                recorded.get(prefix + "value"),
                0,
                1 / Math.sqrt(config.headDim()),
                false,
                MassiveActivations.positions(recorded.get(prefix + "query" + INPUT), hidden));
    }

    private interface Sink {
        void take(float[] x, float[] y);
    }

    /** A layer whose inputs, and outputs with bias, are passed on. */
    private static final class Recorder implements Linear {
        private final FloatLinear linear;
        private final float[] bias;
        private final Sink sink;

        Recorder(Matrix weight, float[] bias, Sink sink) {
            linear = new FloatLinear(weight);
            this.bias = bias;
            this.sink = sink;
        }

        @Override
        public void apply(float[] x, float[] y, int rows) {
            linear.apply(x, y, rows);
            float[] biased = y.clone();
            for (int i = 0; i < biased.length; i++) {
                biased[i] += bias[i % bias.length];
            }
            sink.take(x.clone(), biased);
        }

        @Override
        public int inFeatures() {
            return linear.inFeatures();
        }

        @Override
        public int outFeatures() {
            return linear.outFeatures();
        }

        @Override
        public long weightBytes() {
            return linear.weightBytes();
        }

        @Override
        public void close() {
            linear.close();
        }
    }
}
