package dev.tarpon.quant.train;

import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;

import java.util.List;

/**
 * One layer: attention and a SwiGLU, each behind a norm and beside the residual stream. Keeps what
 * the backward pass needs of the last forward pass.
 */
final class TransformerLayer {
    /** Gradients that no layer needs after its own backward pass, shared by all layers. */
    static final class Scratch {
        final float[][] norm;
        final float[][] query;
        final float[][] key;
        final float[][] value;
        final float[][] heads;
        final float[][] wide;

        Scratch(LlamaConfig config, int rows) {
            norm = new float[rows][config.hidden()];
            query = new float[rows][config.queryWidth()];
            key = new float[rows][config.keyValueWidth()];
            value = new float[rows][config.keyValueWidth()];
            heads = new float[rows][config.queryWidth()];
            wide = new float[rows][config.intermediate()];
        }
    }

    private final int context;
    private final Rope rope;
    private final Scratch scratch;
    private final Attention attention;

    private final RmsNorm inputNorm;
    private final LinearLayer query;
    private final LinearLayer key;
    private final LinearLayer value;
    private final LinearLayer output;
    private final RmsNorm middleNorm;
    private final LinearLayer gate;
    private final LinearLayer up;
    private final LinearLayer down;

    // Activations of the last forward pass, [rows, width].
    private final float[][] normed;
    private final float[][] queries;
    private final float[][] keys;
    private final float[][] values;
    private final float[][] heads;
    private final float[][] middle;
    private final float[][] middleNormed;
    private final float[][] gated;
    private final float[][] upped;
    private final float[][] sigmoid;
    private final float[][] wide;

    /**
     * A layer with weights of zeros.
     *
     * @param sequences how many sequences of length context a pass has
     */
    TransformerLayer(
            LlamaConfig config, int layer, int sequences, int context, Rope rope, Scratch scratch) {
        this.context = context;
        this.rope = rope;
        this.scratch = scratch;
        int rows = sequences * context;
        int hidden = config.hidden();
        int queryWidth = config.queryWidth();
        int keyWidth = config.keyValueWidth();
        int inner = config.intermediate();
        double epsilon = config.rmsNormEpsilon();
        attention =
                new Attention(
                        config.queryHeads(),
                        config.keyValueHeads(),
                        config.headDim(),
                        context,
                        sequences);
        inputNorm = new RmsNorm(LlamaNames.INPUT_NORM.of(layer), hidden, epsilon, rows);
        query = new LinearLayer(LlamaNames.QUERY.of(layer), queryWidth, hidden);
        key = new LinearLayer(LlamaNames.KEY.of(layer), keyWidth, hidden);
        value = new LinearLayer(LlamaNames.VALUE.of(layer), keyWidth, hidden);
        output = new LinearLayer(LlamaNames.ATTENTION_OUTPUT.of(layer), hidden, queryWidth);
        middleNorm = new RmsNorm(LlamaNames.POST_ATTENTION_NORM.of(layer), hidden, epsilon, rows);
        gate = new LinearLayer(LlamaNames.GATE.of(layer), inner, hidden);
        up = new LinearLayer(LlamaNames.UP.of(layer), inner, hidden);
        down = new LinearLayer(LlamaNames.DOWN.of(layer), hidden, inner);
        normed = new float[rows][hidden];
        queries = new float[rows][queryWidth];
        keys = new float[rows][keyWidth];
        values = new float[rows][keyWidth];
        heads = new float[rows][queryWidth];
        middle = new float[rows][hidden];
        middleNormed = new float[rows][hidden];
        gated = new float[rows][inner];
        upped = new float[rows][inner];
        sigmoid = new float[rows][inner];
        wide = new float[rows][inner];
    }

    List<LinearLayer> linears() {
        return List.of(query, key, value, output, gate, up, down);
    }

    /** All parameters in the order of files. */
    List<TrainableParameter> parameters() {
        return List.of(
                inputNorm.weight(),
                query.weight(),
                key.weight(),
                value.weight(),
                output.weight(),
                middleNorm.weight(),
                gate.weight(),
                up.weight(),
                down.weight());
    }

    /**
     * The layer's output.
     *
     * @param x [rows, hidden]; has to stay as it is until the backward pass
     * @param y receives [rows, hidden]
     */
    void forward(float[][] x, float[][] y) {
        inputNorm.forward(x, normed);
        query.forward(normed, queries);
        key.forward(normed, keys);
        value.forward(normed, values);
        rope.forward(queries, context);
        rope.forward(keys, context);
        attention.forward(queries, keys, values, heads);
        copy(x, middle);
        output.forwardAdd(heads, middle);

        middleNorm.forward(middle, middleNormed);
        gate.forward(middleNormed, gated);
        up.forward(middleNormed, upped);
        SwiGlu.forward(gated, upped, sigmoid, wide);
        copy(middle, y);
        down.forwardAdd(wide, y);
    }

    /**
     * Writes the gradients of all weights.
     *
     * @param x what the last forward pass had
     * @param d the gradient of y; becomes that of x
     */
    void backward(float[][] x, float[][] d) {
        down.backwardWeight(d, wide);
        down.backwardInput(d, scratch.wide);
        SwiGlu.backward(scratch.wide, sigmoid, gated, upped);
        gate.backwardWeight(gated, middleNormed);
        up.backwardWeight(upped, middleNormed);
        gate.backwardInput(gated, scratch.norm);
        up.backwardInputAdd(upped, scratch.norm);
        middleNorm.backward(scratch.norm, middle, d);

        output.backwardWeight(d, heads);
        output.backwardInput(d, scratch.heads);
        attention.backward(
                scratch.heads, queries, keys, values, scratch.query, scratch.key, scratch.value);
        rope.backward(scratch.query, context);
        rope.backward(scratch.key, context);
        query.backwardWeight(scratch.query, normed);
        key.backwardWeight(scratch.key, normed);
        value.backwardWeight(scratch.value, normed);
        query.backwardInput(scratch.query, scratch.norm);
        key.backwardInputAdd(scratch.key, scratch.norm);
        value.backwardInputAdd(scratch.value, scratch.norm);
        inputNorm.backward(scratch.norm, x, d);
    }

    private static void copy(float[][] from, float[][] to) {
        for (int i = 0; i < from.length; i++) {
            System.arraycopy(from[i], 0, to[i], 0, from[i].length);
        }
    }
}
