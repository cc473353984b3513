package dev.tarpon.quant.train;

/**
 * Y = X W^T with W [outFeatures, inFeatures], forward and backward.
 *
 * <p>The forward pass reads a transposed copy, because {@link MatMul} runs along the rows of its
 * second matrix; {@link #refresh} has to follow every change of W.
 */
final class LinearLayer {
    private final TrainableParameter weight;
    private final float[][] transposed;

    LinearLayer(String name, int outFeatures, int inFeatures) {
        weight = new TrainableParameter(name, outFeatures, inFeatures);
        transposed = new float[inFeatures][outFeatures];
    }

    TrainableParameter weight() {
        return weight;
    }

    /** Takes over what W has become. */
    void refresh() {
        Rows.transpose(weight.value(), transposed);
    }

    /** Y = X W^T. */
    void forward(float[][] x, float[][] y) {
        MatMul.multiply(x, transposed, y);
    }

    /** Y += X W^T, for a residual stream. */
    void forwardAdd(float[][] x, float[][] y) {
        MatMul.add(x, transposed, y);
    }

    /** dW = dY^T X. */
    void backwardWeight(float[][] dy, float[][] x) {
        MatMul.multiplyTransposed(dy, x, weight.gradient());
    }

    /** dX = dY W. */
    void backwardInput(float[][] dy, float[][] dx) {
        MatMul.multiply(dy, weight.value(), dx);
    }

    /** dX += dY W, where X feeds several layers. */
    void backwardInputAdd(float[][] dy, float[][] dx) {
        MatMul.add(dy, weight.value(), dx);
    }
}
