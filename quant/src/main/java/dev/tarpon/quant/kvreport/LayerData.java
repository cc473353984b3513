package dev.tarpon.quant.kvreport;

import dev.tarpon.kv.RopeLayout;

/**
 * Queries, keys and values of one layer over one text, before rotary positions; token t stands at
 * position t.
 *
 * @param tokens how many
 * @param queryHeads a multiple of keyValueHeads
 * @param keyValueHeads heads of keys and values
 * @param headDim channels of a head
 * @param q [tokens, queryHeads, headDim]
 * @param k [tokens, keyValueHeads, headDim]
 * @param v as k
 * @param ropeTheta base of the rotary frequencies in the half layout; 0 for a model without
 * @param scoreScale of query times key
 * @param causal whether a query sees its own position and those before only
 * @param massive positions of the tokens with massive activations in the layer's input, rising
 */
public record LayerData(
        int tokens,
        int queryHeads,
        int keyValueHeads,
        int headDim,
        float[] q,
        float[] k,
        float[] v,
        double ropeTheta,
        double scoreScale,
        boolean causal,
        int[] massive) {
    /** The layout of rotary positions. */
    static final RopeLayout LAYOUT = RopeLayout.HALF;

    /** Channels of all heads of keys. */
    int width() {
        return keyValueHeads * headDim;
    }

    /** Heads [tokens, heads, headDim] after rotary positions; a copy. */
    float[] turned(float[] x) {
        float[] y = x.clone();
        if (ropeTheta == 0) {
            return y;
        }
        int half = headDim / 2;
        int width = x.length / tokens;
        for (int t = 0; t < tokens; t++) {
            for (int pair = 0; pair < half; pair++) {
                double angle = t * Math.pow(ropeTheta, -(double) pair / half);
                double cos = Math.cos(angle);
                double sin = Math.sin(angle);
                for (int at = t * width + pair; at < (t + 1) * width; at += headDim) {
                    y[at] = (float) (x[at] * cos - x[at + half] * sin);
                    y[at + half] = (float) (x[at + half] * cos + x[at] * sin);
                }
            }
        }
        return y;
    }

    /**
     * The outputs of attention over given keys and values.
     *
     * @param keys after rotary positions
     * @return [tokens, queryHeads, headDim]
     */
    double[] attend(float[] keys, float[] values) {
        float[] queries = turned(q);
        double[] out = new double[q.length];
        double[] p = new double[tokens];
        for (int t = 0; t < tokens; t++) {
            int visible = causal ? t + 1 : tokens;
            for (int head = 0; head < queryHeads; head++) {
                int query = (t * queryHeads + head) * headDim;
                int channel = head / (queryHeads / keyValueHeads) * headDim;
                double top = Double.NEGATIVE_INFINITY;
                for (int j = 0; j < visible; j++) {
                    float dot = 0;
                    for (int i = 0; i < headDim; i++) {
                        dot += queries[query + i] * keys[j * width() + channel + i];
                    }
                    p[j] = dot * scoreScale;
                    top = Math.max(top, p[j]);
                }
                double sum = 0;
                for (int j = 0; j < visible; j++) {
                    p[j] = Math.exp(p[j] - top);
                    sum += p[j];
                }
                for (int j = 0; j < visible; j++) {
                    double weight = p[j] / sum;
                    for (int i = 0; i < headDim; i++) {
                        out[query + i] += weight * values[j * width() + channel + i];
                    }
                }
            }
        }
        return out;
    }
}
