package dev.tarpon.bench.linear;

import java.util.concurrent.ForkJoinPool;
import java.util.stream.IntStream;

/**
 * What the plain Java loops share: fp32 activations, and threads that take a block of columns each.
 * The inner loops run along rows of W, which the JIT compiler vectorises.
 */
abstract class JavaLinear implements LinearImplementation {
    protected final int rows;
    protected final int inFeatures;
    protected final int outFeatures;
    protected final float[] x;
    protected final float[] y;
    private final ForkJoinPool pool;
    private final int sets;

    JavaLinear(LinearCase layer, SampleLayer sample, int sets) {
        rows = layer.rows();
        inFeatures = Math.toIntExact(layer.inFeatures());
        outFeatures = Math.toIntExact(layer.outFeatures());
        x = sample.x();
        y = new float[Math.multiplyExact(rows, outFeatures)];
        this.sets = sets;
        int threads =
                layer.threads() == 0 ? Runtime.getRuntime().availableProcessors() : layer.threads();
        pool = new ForkJoinPool(threads);
    }

    /** Computes columns [begin, end) of y; both are even. */
    protected abstract void runColumns(int set, int begin, int end);

    /** y[row, begin..end) += a * w, where w[0] belongs to column begin. */
    protected final void addScaled(int row, float a, float[] w, int wOffset, int begin, int end) {
        int yOffset = row * outFeatures + begin;
        for (int i = 0; i < end - begin; i++) {
            y[yOffset + i] += a * w[wOffset + i];
        }
    }

    @Override
    public final void run(int set) {
        IntStream blocks = IntStream.range(0, pool.getParallelism()).parallel();
        pool.submit(() -> blocks.forEach(block -> runBlock(set, block))).join();
    }

    /** One thread's share: whole pairs of columns, because a byte holds two 4-bit codes. */
    private void runBlock(int set, int block) {
        int blocks = pool.getParallelism();
        int pairs = outFeatures / 2;
        runColumns(set, pairs * block / blocks * 2, pairs * (block + 1) / blocks * 2);
    }

    @Override
    public final void synchronize() {}

    @Override
    public final int weightSets() {
        return sets;
    }

    @Override
    public final float[] output() {
        return y.clone();
    }

    @Override
    public final void close() {
        pool.close();
    }
}
