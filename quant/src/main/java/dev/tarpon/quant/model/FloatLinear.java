package dev.tarpon.quant.model;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * A linear layer in fp32, plain Java: what the quantised layers are compared with.
 *
 * <p>Blocked so that a tile of W is fetched once for a block of rows and their sums stay in the
 * first-level cache. The inner loop runs along memory with one index for all arrays, which is what
 * the JIT needs to vectorise it without proof that the arrays differ; hence W is kept as an array
 * of rows. Blocks of rows run in parallel.
 */
public final class FloatLinear implements Linear {
    private static final int BLOCK_ROWS = 16;
    private static final int BLOCK_COLUMNS = 256;

    /** Rows of W that one pass adds to the sums, which saves loads and stores of the sums. */
    private static final int UNROLL = 4;

    private final int inFeatures;
    private final int outFeatures;
    private final float[][] weightRows;

    /** A layer over a copy of a matrix. */
    public FloatLinear(Matrix weight) {
        inFeatures = weight.inFeatures();
        outFeatures = weight.outFeatures();
        weightRows = new float[inFeatures][];
        for (int i = 0; i < inFeatures; i++) {
            int at = i * outFeatures;
            weightRows[i] = Arrays.copyOfRange(weight.values(), at, at + outFeatures);
        }
    }

    @Override
    public void apply(float[] x, float[] y, int rows) {
        IntStream.range(0, Math.ceilDiv(rows, BLOCK_ROWS))
                .parallel()
                .forEach(
                        block -> {
                            int from = block * BLOCK_ROWS;
                            applyRows(x, y, from, Math.min(rows, from + BLOCK_ROWS));
                        });
    }

    private void applyRows(float[] x, float[] y, int from, int to) {
        float[][] sums = new float[to - from][outFeatures];
        for (int begin = 0; begin < outFeatures; begin += BLOCK_COLUMNS) {
            int end = Math.min(outFeatures, begin + BLOCK_COLUMNS);
            int i = 0;
            for (; i + UNROLL <= inFeatures; i += UNROLL) {
                for (int row = from; row < to; row++) {
                    addFour(x, row * inFeatures + i, i, sums[row - from], begin, end);
                }
            }
            for (; i < inFeatures; i++) {
                for (int row = from; row < to; row++) {
                    addOne(x[row * inFeatures + i], i, sums[row - from], begin, end);
                }
            }
        }
        for (int row = from; row < to; row++) {
            System.arraycopy(sums[row - from], 0, y, row * outFeatures, outFeatures);
        }
    }

    /** sums[begin..end) += four elements of x times four rows of W. */
    private void addFour(float[] x, int xAt, int wRow, float[] sums, int begin, int end) {
        float x0 = x[xAt];
        float x1 = x[xAt + 1];
        float x2 = x[xAt + 2];
        float x3 = x[xAt + 3];
        float[] w0 = weightRows[wRow];
        float[] w1 = weightRows[wRow + 1];
        float[] w2 = weightRows[wRow + 2];
        float[] w3 = weightRows[wRow + 3];
        for (int j = begin; j < end; j++) {
            float sum = Math.fma(x0, w0[j], sums[j]);
            sum = Math.fma(x1, w1[j], sum);
            sum = Math.fma(x2, w2[j], sum);
            sums[j] = Math.fma(x3, w3[j], sum);
        }
    }

    private void addOne(float x, int wRow, float[] sums, int begin, int end) {
        float[] w = weightRows[wRow];
        for (int j = begin; j < end; j++) {
            sums[j] = Math.fma(x, w[j], sums[j]);
        }
    }

    @Override
    public int inFeatures() {
        return inFeatures;
    }

    @Override
    public int outFeatures() {
        return outFeatures;
    }

    @Override
    public long weightBytes() {
        return (long) inFeatures * outFeatures * Float.BYTES;
    }

    @Override
    public void close() {}
}
