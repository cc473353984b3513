package dev.tarpon.bench.optim;

/** The baseline: a plain loop over fp32 states, on one thread, as HotSpot vectorises it. */
final class JavaAdamW implements AdamW {
    private final float[] p;
    private final float[] g;
    private final float[] m;
    private final float[] v;
    private int steps;

    JavaAdamW(float[] parameter, float[] gradient) {
        p = parameter.clone();
        g = gradient.clone();
        m = new float[p.length];
        v = new float[p.length];
    }

    @Override
    public void step() {
        steps++;
        float beta1 = (float) BETA1;
        float beta2 = (float) BETA2;
        float keep = (float) (1 - LR * WEIGHT_DECAY);
        float stepSize = (float) (LR / (1 - Math.pow(BETA1, steps)));
        float rootScale = (float) (1 / Math.sqrt(1 - Math.pow(BETA2, steps)));
        float eps = (float) EPS;
        for (int i = 0; i < p.length; i++) {
            m[i] = beta1 * m[i] + (1 - beta1) * g[i];
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
            float root = (float) Math.sqrt(v[i]) * rootScale + eps;
            p[i] = keep * p[i] - stepSize * (m[i] / root);
        }
    }

    @Override
    public void synchronize() {}

    @Override
    public float[] parameter() {
        return p.clone();
    }

    @Override
    public void close() {}
}
