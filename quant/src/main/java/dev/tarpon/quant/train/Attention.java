package dev.tarpon.quant.train;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * Causal grouped-query attention, forward and backward, over sequences that lie end to end.
 *
 * <p>A task is a sequence and a head of keys and values with the query heads that share it, so that
 * no two tasks write the same gradient. Inside, every product runs along rows of the context's
 * length where it can: keys, values and incoming gradients are transposed first. Blocks above the
 * diagonal are left out. The probabilities are kept for the backward pass.
 */
final class Attention {
    /** Rows of a triangle that share how far they reach. */
    private static final int STRIPE = 16;

    private final int queryHeads;
    private final int keyValueHeads;
    private final int headDim;
    private final int context;
    private final float scale;

    /** Of each sequence and query head, [context, context]. */
    private final float[][][] probabilities;

    Attention(int queryHeads, int keyValueHeads, int headDim, int context, int maxSequences) {
        this.queryHeads = queryHeads;
        this.keyValueHeads = keyValueHeads;
        this.headDim = headDim;
        this.context = context;
        this.scale = (float) (1 / Math.sqrt(headDim));
        this.probabilities = new float[maxSequences * queryHeads][context][context];
    }

    /** A task's body: one sequence, one head of keys and values. */
    private interface HeadBody {
        void run(int sequence, int keyValueHead);
    }

    private void forHeads(int rows, HeadBody body) {
        IntStream.range(0, rows / context * keyValueHeads)
                .parallel()
                .forEach(task -> body.run(task / keyValueHeads, task % keyValueHeads));
    }

    /**
     * y = softmax(q k^T / sqrt(headDim)) v under the causal mask.
     *
     * @param q [sequences * context, queryHeads * headDim]
     * @param k [sequences * context, keyValueHeads * headDim]
     * @param v as k
     * @param y as q
     */
    void forward(float[][] q, float[][] k, float[][] v, float[][] y) {
        int group = queryHeads / keyValueHeads;
        forHeads(
                q.length,
                (sequence, kvHead) -> {
                    int at = sequence * context;
                    float[][] keysT = takeTransposed(k, at, kvHead);
                    float[][] values = take(v, at, kvHead);
                    for (int head = kvHead * group; head < (kvHead + 1) * group; head++) {
                        float[][] p = probabilities[sequence * queryHeads + head];
                        float[][] out = new float[context][headDim];
                        attend(take(q, at, head), keysT, values, p, out);
                        put(out, y, at, head);
                    }
                });
    }

    private void attend(
            float[][] queries, float[][] keysT, float[][] values, float[][] p, float[][] out) {
        int[] powers = new int[context];
        Rows.clear(p);
        for (int from = 0; from < context; from += STRIPE) {
            int to = Math.min(context, from + STRIPE);
            MatMul.addBlock(queries, keysT, p, from, to, 0, headDim, to);
            for (int t = from; t < to; t++) {
                softmax(p[t], t + 1, powers);
            }
            MatMul.addBlock(p, values, out, from, to, 0, to, headDim);
        }
    }

    /** Softmax of the scaled scores up to the diagonal; zeros behind it. */
    private void softmax(float[] x, int length, int[] powers) {
        float max = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < length; i++) {
            max = Math.max(max, x[i]);
        }
        for (int i = 0; i < length; i++) {
            x[i] = (x[i] - max) * scale;
        }
        Exponential.apply(x, length, powers);
        float sum = 0;
        for (int i = 0; i < length; i++) {
            sum += x[i];
        }
        float inverse = 1 / sum;
        for (int i = 0; i < length; i++) {
            x[i] *= inverse;
        }
        Arrays.fill(x, length, x.length, 0);
    }

    /**
     * The gradients of q, k and v, which are overwritten.
     *
     * @param q what the last forward pass had, as are k and v
     */
    void backward(
            float[][] dy,
            float[][] q,
            float[][] k,
            float[][] v,
            float[][] dq,
            float[][] dk,
            float[][] dv) {
        int group = queryHeads / keyValueHeads;
        forHeads(
                q.length,
                (sequence, kvHead) -> {
                    int at = sequence * context;
                    float[][] keys = take(k, at, kvHead);
                    float[][] valuesT = takeTransposed(v, at, kvHead);
                    float[][] dKeysT = new float[headDim][context];
                    float[][] dValuesT = new float[headDim][context];
                    float[][] dScores = new float[context][context];
                    for (int head = kvHead * group; head < (kvHead + 1) * group; head++) {
                        float[][] p = probabilities[sequence * queryHeads + head];
                        float[][] dQueries = new float[context][headDim];
                        scoresBackward(take(dy, at, head), valuesT, p, dScores);
                        productsBackward(keys, dScores, dQueries);
                        accumulate(takeTransposed(dy, at, head), p, dValuesT);
                        accumulate(takeTransposed(q, at, head), dScores, dKeysT);
                        put(dQueries, dq, at, head);
                    }
                    putTransposed(dKeysT, dk, at, kvHead);
                    putTransposed(dValuesT, dv, at, kvHead);
                });
    }

    /** dScores = p (dP - sum(dP p)) / sqrt(headDim), with dP = dY v^T. */
    private void scoresBackward(float[][] dOut, float[][] valuesT, float[][] p, float[][] dScores) {
        Rows.clear(dScores);
        for (int from = 0; from < context; from += STRIPE) {
            int to = Math.min(context, from + STRIPE);
            MatMul.addBlock(dOut, valuesT, dScores, from, to, 0, headDim, to);
            for (int t = from; t < to; t++) {
                // Behind the diagonal p is 0, and so is what this leaves there.
                softmaxBackward(p[t], dScores[t], Rows.dot(p[t], dScores[t]));
            }
        }
    }

    private void softmaxBackward(float[] p, float[] d, float sum) {
        for (int i = 0; i < p.length; i++) {
            d[i] = p[i] * (d[i] - sum) * scale;
        }
    }

    private void productsBackward(float[][] keys, float[][] dScores, float[][] dQueries) {
        for (int from = 0; from < context; from += STRIPE) {
            int to = Math.min(context, from + STRIPE);
            MatMul.addBlock(dScores, keys, dQueries, from, to, 0, to, headDim);
        }
    }

    /** sumT[d][s] += sum over t >= s of aT[d][t] lower[t][s]. */
    private void accumulate(float[][] aT, float[][] lower, float[][] sumT) {
        for (int from = 0; from < context; from += STRIPE) {
            int to = Math.min(context, from + STRIPE);
            MatMul.addBlock(aT, lower, sumT, 0, headDim, from, to, to);
        }
    }

    private float[][] take(float[][] x, int at, int head) {
        float[][] rows = new float[context][headDim];
        for (int t = 0; t < context; t++) {
            System.arraycopy(x[at + t], head * headDim, rows[t], 0, headDim);
        }
        return rows;
    }

    private float[][] takeTransposed(float[][] x, int at, int head) {
        float[][] columns = new float[headDim][context];
        for (int t = 0; t < context; t++) {
            for (int d = 0; d < headDim; d++) {
                columns[d][t] = x[at + t][head * headDim + d];
            }
        }
        return columns;
    }

    private void put(float[][] rows, float[][] x, int at, int head) {
        for (int t = 0; t < context; t++) {
            System.arraycopy(rows[t], 0, x[at + t], head * headDim, headDim);
        }
    }

    private void putTransposed(float[][] columns, float[][] x, int at, int head) {
        for (int t = 0; t < context; t++) {
            for (int d = 0; d < headDim; d++) {
                x[at + t][head * headDim + d] = columns[d][t];
            }
        }
    }
}
