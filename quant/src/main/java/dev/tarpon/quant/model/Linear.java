package dev.tarpon.quant.model;

/**
 * y = x * W, the part of a model that is quantised. The model adds the bias.
 *
 * <p>The same model code runs over any implementation, so that runs differ in their weights and
 * arithmetic only. Not thread-safe: one model uses a layer from one thread at a time.
 */
public interface Linear extends AutoCloseable {
    /**
     * Multiplies a batch of rows.
     *
     * @param x [rows, inFeatures]
     * @param y [rows, outFeatures], overwritten
     */
    void apply(float[] x, float[] y, int rows);

    /** K. */
    int inFeatures();

    /** N. */
    int outFeatures();

    /** What the weights take in memory while the layer is in use. */
    long weightBytes();

    @Override
    void close();
}
