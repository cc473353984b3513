package dev.tarpon.quant.kv;

import dev.tarpon.Device;
import dev.tarpon.quant.generate.Attention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.PlainAttention;
import dev.tarpon.quant.llama.LlamaConfig;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.LongConsumer;

/** Runs a model over a text and collects what its cache wants to know. */
public final class Calibrator {
    /** Positions that are looked at for sinks. */
    private static final int SINK_POSITIONS = 64;

    private final LlamaDecoder decoder;
    private final List<KeyStatistics> statistics = new ArrayList<>();
    private final int[][] sinkWindows;
    private int windows;

    /**
     * A calibrator.
     *
     * @param decoder with the weights that the model will run with, or better ones
     */
    public Calibrator(LlamaDecoder decoder) {
        this.decoder = decoder;
        LlamaConfig config = decoder.config();
        for (int layer = 0; layer < config.layers(); layer++) {
            statistics.add(new KeyStatistics(config.keyValueHeads(), config.headDim()));
        }
        sinkWindows = new int[config.layers()][SINK_POSITIONS];
    }

    /** Passes attention on, and keys to the statistics. */
    private final class Recorder implements Attention {
        private final Attention attention;

        Recorder(Attention attention) {
            this.attention = attention;
        }

        @Override
        public int batch() {
            return attention.batch();
        }

        @Override
        public int length() {
            return attention.length();
        }

        @Override
        public void layerInput(int layer, int count, float[] x) {
            for (int position : MassiveActivations.positions(x, decoder.config().hidden())) {
                if (position < SINK_POSITIONS) {
                    sinkWindows[layer][position]++;
                }
            }
        }

        @Override
        public void step(int layer, int count, float[] q, float[] k, float[] v, float[] o) {
            statistics.get(layer).add(k);
            attention.step(layer, count, q, k, v, o);
        }

        @Override
        public void close() {
            attention.close();
        }
    }

    /**
     * Runs whole windows of a text; what is left over at its end is not run.
     *
     * @param tokens ids
     * @param window tokens in one piece, at most the model's positions
     * @param listener called with the number of tokens after each window
     * @throws IllegalArgumentException if the text has no whole window
     */
    public void run(int[] tokens, int window, LongConsumer listener) {
        if (tokens.length < window) {
            throw new IllegalArgumentException(
                    "%d tokens are fewer than one window of %d".formatted(tokens.length, window));
        }
        for (int at = 0; at + window <= tokens.length; at += window) {
            try (var attention = new Recorder(new PlainAttention(decoder.config(), 1, window))) {
                decoder.forward(Arrays.copyOfRange(tokens, at, at + window), attention);
            }
            windows++;
            listener.accept(at + window);
        }
    }

    /**
     * The result.
     *
     * @param device where keys' means are rotated; any gives the same
     */
    public ModelCalibration result(Device device, CalibrationSource source) {
        LlamaConfig config = decoder.config();
        List<ModelCalibration.Layer> layers = new ArrayList<>();
        float[][] shares = new float[config.layers()][SINK_POSITIONS];
        for (int layer = 0; layer < config.layers(); layer++) {
            KeyStatistics keys = statistics.get(layer);
            float[] rotated = keys.rotatedMean(device);
            layers.add(
                    new ModelCalibration.Layer(
                            keys.mean(), keys.deviation(), rotated, KeyStatistics.order(rotated)));
            for (int i = 0; i < SINK_POSITIONS; i++) {
                shares[layer][i] = (float) sinkWindows[layer][i] / Math.max(1, windows);
            }
        }
        return new ModelCalibration(
                config.keyValueHeads(), config.headDim(), layers, shares, source);
    }
}
