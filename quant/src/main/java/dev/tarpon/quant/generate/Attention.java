package dev.tarpon.quant.generate;

/**
 * Causal attention of a batch of sequences with the memory of their keys and values: what a {@link
 * LlamaDecoder} leaves open, so that runs differ in their cache only.
 *
 * <p>Not thread-safe.
 */
public interface Attention extends AutoCloseable {
    /** How many sequences run side by side. */
    int batch();

    /** Tokens that each sequence has so far; equal for all, and for all layers between steps. */
    int length();

    /**
     * Sees the residual stream as a layer gets it, before that layer's {@link #step}.
     *
     * @param x [batch, count, hidden]; only to be read
     */
    default void layerInput(int layer, int count, float[] x) {}

    /**
     * Adds {@code count} tokens to each sequence in one layer, and attends with them. Layers come
     * in order, each once a step; {@link #length} grows after the last one.
     *
     * @param q queries [batch, count, queryHeads, headDim] before rotary positions
     * @param k keys [batch, count, keyValueHeads, headDim] before rotary positions
     * @param v values, as k
     * @param o outputs, as q; overwritten
     * @throws IllegalArgumentException if the sequences would be longer than there is room for
     */
    void step(int layer, int count, float[] q, float[] k, float[] v, float[] o);

    @Override
    void close();
}
