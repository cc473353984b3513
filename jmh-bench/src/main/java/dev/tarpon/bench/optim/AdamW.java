package dev.tarpon.bench.optim;

/** AdamW of one fp32 parameter, as some implementation steps it; the gradient stays the same. */
public interface AdamW extends AutoCloseable {
    double LR = 1e-3;
    double BETA1 = 0.9;
    double BETA2 = 0.999;
    double EPS = 1e-8;
    double WEIGHT_DECAY = 0.01;

    /** Takes a step, or queues it. */
    void step();

    /** Returns when all steps have been taken. */
    void synchronize();

    /** The parameter, copied. */
    float[] parameter();

    @Override
    void close();
}
