package dev.tarpon.quant.kvreport;

import dev.tarpon.quant.generate.Attention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.PlainAttention;
import dev.tarpon.quant.kv.MassiveActivations;
import dev.tarpon.quant.llama.LlamaConfig;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Queries, keys and values of a Llama model on windows of a text. */
public final class LlamaData {
    private LlamaData() {}

    /** Of each layer, its data on each window of {@code window} tokens. */
    public static List<List<LayerData>> of(LlamaDecoder decoder, int[] tokens, int window) {
        LlamaConfig config = decoder.config();
        List<List<LayerData>> layers = new ArrayList<>();
        for (int layer = 0; layer < config.layers(); layer++) {
            layers.add(new ArrayList<>());
        }
        for (int at = 0; at + window <= tokens.length; at += window) {
            try (var attention = new Recorder(config, window, layers)) {
                decoder.forward(Arrays.copyOfRange(tokens, at, at + window), attention);
            }
        }
        return layers;
    }

    /** Keeps what attention is given. */
    private static final class Recorder implements Attention {
        private final LlamaConfig config;
        private final PlainAttention attention;
        private final List<List<LayerData>> layers;
        private int[] massive;

        Recorder(LlamaConfig config, int window, List<List<LayerData>> layers) {
            this.config = config;
            this.layers = layers;
            attention = new PlainAttention(config, 1, window);
        }

        @Override
        public int batch() {
            return 1;
        }

        @Override
        public int length() {
            return attention.length();
        }

        @Override
        public void layerInput(int layer, int count, float[] x) {
            massive = MassiveActivations.positions(x, config.hidden());
        }

        @Override
        public void step(int layer, int count, float[] q, float[] k, float[] v, float[] o) {
            layers.get(layer)
                    .add(
                            new LayerData(
                                    count,
                                    config.queryHeads(),
                                    config.keyValueHeads(),
                                    config.headDim(),
                                    q.clone(),
                                    k.clone(),
                                    v.clone(),
                                    config.ropeTheta(),
                                    1 / Math.sqrt(config.headDim()),
                                    true,
                                    massive));
            attention.step(layer, count, q, k, v, o);
        }

        @Override
        public void close() {
            attention.close();
        }
    }
}
