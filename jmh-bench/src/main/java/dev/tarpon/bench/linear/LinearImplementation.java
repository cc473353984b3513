package dev.tarpon.bench.linear;

/** A linear layer made ready to run by Tarpon or by one of its baselines. Not thread-safe. */
public interface LinearImplementation extends AutoCloseable {
    /** Runs the layer once, or queues it, with copy {@code set} of the weights. */
    void run(int set);

    /** Waits for queued runs. */
    void synchronize();

    /** Copies of the weights; {@link #run} takes 0 to this number less one. */
    int weightSets();

    /** y [rows, outFeatures] of the last run, for tests. */
    float[] output();

    @Override
    void close();
}
