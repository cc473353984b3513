package dev.tarpon.quant.generate;

/** Root-mean-square norms. */
final class Norms {
    private Norms() {}

    /** Every row of x divided by its root mean square and scaled; x [rows, scale.length]. */
    static float[] rms(float[] x, float[] scale, double epsilon) {
        float[] y = new float[x.length];
        int width = scale.length;
        for (int at = 0; at < x.length; at += width) {
            double squares = 0;
            for (int i = 0; i < width; i++) {
                squares += (double) x[at + i] * x[at + i];
            }
            float inverse = (float) (1 / Math.sqrt(squares / width + epsilon));
            for (int i = 0; i < width; i++) {
                y[at + i] = x[at + i] * inverse * scale[i];
            }
        }
        return y;
    }
}
