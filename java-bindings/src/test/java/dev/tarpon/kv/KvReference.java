package dev.tarpon.kv;

/** Attention by its definition, in double; positions of keys are their places. */
final class KvReference {
    private KvReference() {}

    /** Turns a head's first ropeDim channels by a position. */
    static double[] rope(KvCacheOptions options, float[] x, int at, int position) {
        double[] y = new double[options.headDim()];
        for (int i = 0; i < y.length; i++) {
            y[i] = x[at + i];
        }
        int pairs = options.ropeDim() / 2;
        for (int pair = 0; pair < pairs; pair++) {
            boolean half = options.ropeLayout() == RopeLayout.HALF;
            int first = half ? pair : 2 * pair;
            int second = half ? pair + pairs : 2 * pair + 1;
            double angle =
                    position
                            / options.ropeScaling()
                            * Math.pow(options.ropeTheta(), -(double) pair / pairs);
            double a = y[first];
            double b = y[second];
            y[first] = a * Math.cos(angle) - b * Math.sin(angle);
            y[second] = b * Math.cos(angle) + a * Math.sin(angle);
        }
        return y;
    }

    /**
     * The output of one query.
     *
     * @param q [queryHeads, headDim] before rotary positions, from {@code at} on
     * @param keys after rotary positions [length, keyValueHeads, headDim]
     */
    static double[] attend(
            KvCacheOptions options,
            float[] q,
            int at,
            int head,
            int position,
            double[] keys,
            double[] values) {
        int dim = options.headDim();
        int kv = head / (options.queryHeads() / options.keyValueHeads()) * dim;
        int width = options.keyValueWidth();
        double[] query = rope(options, q, at + head * dim, position);
        double[] out = new double[dim];
        double[] p = new double[position + 1];
        double top = Double.NEGATIVE_INFINITY;
        for (int j = 0; j <= position; j++) {
            for (int i = 0; i < dim; i++) {
                p[j] += query[i] * keys[j * width + kv + i];
            }
            p[j] /= Math.sqrt(dim);
            top = Math.max(top, p[j]);
        }
        double sum = 0;
        for (int j = 0; j <= position; j++) {
            p[j] = Math.exp(p[j] - top);
            sum += p[j];
        }
        for (int j = 0; j <= position; j++) {
            for (int i = 0; i < dim; i++) {
                out[i] += p[j] / sum * values[j * width + kv + i];
            }
        }
        return out;
    }
}
