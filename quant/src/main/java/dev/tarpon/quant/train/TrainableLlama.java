package dev.tarpon.quant.train;

import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;
import dev.tarpon.quant.llama.LlamaWeights;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;

/**
 * A Llama model with gradients, in fp32 and plain Java, on all processors.
 *
 * <p>A pass takes a fixed number of sequences of a fixed length, for which all activations are
 * allocated once. Results do not depend on the number of processors. Not thread-safe.
 */
final class TrainableLlama {
    private final LlamaConfig config;
    private final int sequences;
    private final int context;

    private final TrainableParameter embedding;
    private final List<TransformerLayer> layers = new ArrayList<>();
    private final RmsNorm finalNorm;
    private final LinearLayer output;
    private final Map<String, TrainableParameter> parameters = new LinkedHashMap<>();

    /** The residual stream before each layer, and behind the last. */
    private final float[][][] stream;

    private final float[][] normed;
    private final float[][] logits;
    private final float[][] gradient;
    private final float[][] normedGradient;

    /**
     * A model of zeros.
     *
     * @param config with an output layer of its own, not tied
     * @param sequences how many sequences a pass has
     * @param context how long they are, up to the configuration's positions
     */
    TrainableLlama(LlamaConfig config, int sequences, int context) {
        if (config.tiedEmbeddings()) {
            throw new IllegalArgumentException("training needs an output layer that is not tied");
        }
        if (context > config.positions()) {
            throw new IllegalArgumentException(
                    "context %d is longer than the model's %d positions"
                            .formatted(context, config.positions()));
        }
        this.config = config;
        this.sequences = sequences;
        this.context = context;
        int rows = Math.multiplyExact(sequences, context);
        int hidden = config.hidden();
        embedding = new TrainableParameter(LlamaNames.EMBEDDING, config.vocabulary(), hidden);
        var rope = new Rope(config.headDim(), context, config.ropeTheta());
        var scratch = new TransformerLayer.Scratch(config, rows);
        for (int layer = 0; layer < config.layers(); layer++) {
            layers.add(new TransformerLayer(config, layer, sequences, context, rope, scratch));
        }
        finalNorm = new RmsNorm(LlamaNames.FINAL_NORM, hidden, config.rmsNormEpsilon(), rows);
        output = new LinearLayer(LlamaNames.OUTPUT, config.vocabulary(), hidden);
        stream = new float[config.layers() + 1][rows][hidden];
        normed = new float[rows][hidden];
        logits = new float[rows][config.vocabulary()];
        gradient = new float[rows][hidden];
        normedGradient = new float[rows][hidden];
        put(embedding);
        layers.forEach(layer -> layer.parameters().forEach(this::put));
        put(finalNorm.weight());
        put(output.weight());
    }

    private void put(TrainableParameter parameter) {
        parameters.put(parameter.name(), parameter);
    }

    LlamaConfig config() {
        return config;
    }

    /** How many tokens a pass has. */
    int tokens() {
        return sequences * context;
    }

    int sequences() {
        return sequences;
    }

    int context() {
        return context;
    }

    /** All parameters in the order of files. */
    List<TrainableParameter> parameters() {
        return List.copyOf(parameters.values());
    }

    /**
     * Norms of 1, matrices from a normal distribution of deviation 0.02, and less by sqrt(2 layers)
     * where a layer adds to the residual stream (Radford et al., GPT-2).
     */
    void initialize(long seed) {
        var random = new Random(seed);
        double residual = 1 / Math.sqrt(2.0 * config.layers());
        for (TrainableParameter parameter : parameters.values()) {
            boolean intoStream =
                    parameter.name().contains("o_proj") || parameter.name().contains("down_proj");
            double deviation = 0.02 * (intoStream ? residual : 1);
            for (float[] row : parameter.value()) {
                for (int i = 0; i < row.length; i++) {
                    row[i] = parameter.isMatrix() ? (float) (deviation * random.nextGaussian()) : 1;
                }
            }
        }
        refresh();
    }

    /** Takes over what the parameters' values have become; has to follow every change. */
    void refresh() {
        layers.forEach(layer -> layer.linears().forEach(LinearLayer::refresh));
        output.refresh();
    }

    /** Copies weights in. */
    void load(LlamaWeights weights) {
        if (!weights.config().equals(config)) {
            throw new IllegalArgumentException(
                    "weights of %s for a model of %s".formatted(weights.config(), config));
        }
        for (TrainableParameter parameter : parameters.values()) {
            float[] values = weights.values(parameter.name());
            int columns = parameter.columns();
            for (int row = 0; row < parameter.rows(); row++) {
                System.arraycopy(values, row * columns, parameter.value()[row], 0, columns);
            }
        }
        refresh();
    }

    /** Copies the weights out. */
    LlamaWeights weights() {
        var values = new LinkedHashMap<String, float[]>();
        for (TrainableParameter parameter : parameters.values()) {
            int columns = parameter.columns();
            float[] flat = new float[parameter.rows() * columns];
            for (int row = 0; row < parameter.rows(); row++) {
                System.arraycopy(parameter.value()[row], 0, flat, row * columns, columns);
            }
            values.put(parameter.name(), flat);
        }
        return new LlamaWeights(config, values);
    }

    /**
     * The mean loss of a pass in nats a token.
     *
     * @param tokens [sequences * context] ids
     * @param targets what follows each
     */
    double loss(int[] tokens, int[] targets) {
        forward(tokens);
        return CrossEntropy.loss(logits, targets);
    }

    /** The mean loss of a pass, and all gradients of it. */
    double lossAndGradients(int[] tokens, int[] targets) {
        forward(tokens);
        double loss = CrossEntropy.lossAndGradient(logits, targets);
        backward(tokens);
        return loss;
    }

    /**
     * All gradients of the mean loss on targets that are drawn from the model's own output, which
     * Sophia-G estimates the curvature from.
     */
    void sampledGradients(int[] tokens, long seed) {
        forward(tokens);
        int[] targets = new int[tokens.length];
        var random = new SplittableRandom(seed);
        float[] probabilities = new float[config.vocabulary()];
        int[] powers = new int[config.vocabulary()];
        for (int t = 0; t < targets.length; t++) {
            System.arraycopy(logits[t], 0, probabilities, 0, probabilities.length);
            CrossEntropy.softmax(probabilities, powers);
            double left = random.nextDouble();
            int drawn = 0;
            while (drawn < probabilities.length - 1 && left >= probabilities[drawn]) {
                left -= probabilities[drawn++];
            }
            targets[t] = drawn;
        }
        CrossEntropy.lossAndGradient(logits, targets);
        backward(tokens);
    }

    private void forward(int[] tokens) {
        if (tokens.length != tokens()) {
            throw new IllegalArgumentException(
                    "%d tokens; a pass has %d sequences of %d"
                            .formatted(tokens.length, sequences, context));
        }
        for (int t = 0; t < tokens.length; t++) {
            float[] row = embedding.value()[tokens[t]];
            System.arraycopy(row, 0, stream[0][t], 0, row.length);
        }
        for (int layer = 0; layer < layers.size(); layer++) {
            layers.get(layer).forward(stream[layer], stream[layer + 1]);
        }
        finalNorm.forward(stream[layers.size()], normed);
        output.forward(normed, logits);
    }

    /** From the logits' gradient, which is where the logits were. */
    private void backward(int[] tokens) {
        output.backwardWeight(logits, normed);
        output.backwardInput(logits, normedGradient);
        Rows.clear(gradient);
        finalNorm.backward(normedGradient, stream[layers.size()], gradient);
        for (int layer = layers.size() - 1; layer >= 0; layer--) {
            layers.get(layer).backward(stream[layer], gradient);
        }
        Rows.clear(embedding.gradient());
        for (int t = 0; t < tokens.length; t++) {
            Rows.add(embedding.gradient()[tokens[t]], gradient[t]);
        }
    }
}
