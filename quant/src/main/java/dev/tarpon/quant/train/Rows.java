package dev.tarpon.quant.train;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * Matrices as arrays of rows, and loops over blocks of rows on all processors.
 *
 * <p>Rows of their own are what the JIT vectorises: a loop that uses one index for all arrays needs
 * no proof that they differ. Blocks have a fixed size, so that sums do not depend on how many
 * processors there are, and a run can be repeated bit for bit.
 */
final class Rows {
    /** Rows that one task works on. */
    static final int BLOCK = 32;

    private Rows() {}

    /** A loop's body over rows from..to (exclusive) of one block. */
    @FunctionalInterface
    interface BlockBody {
        void run(int block, int from, int to);
    }

    /** How many blocks so many rows have. */
    static int blocks(int rows) {
        return Math.ceilDiv(rows, BLOCK);
    }

    /** Runs the body for all blocks, in parallel and in no order. */
    static void forBlocks(int rows, BlockBody body) {
        IntStream.range(0, blocks(rows))
                .parallel()
                .forEach(
                        block -> {
                            int from = block * BLOCK;
                            body.run(block, from, Math.min(rows, from + BLOCK));
                        });
    }

    /** target[j][i] = source[i][j]. */
    static void transpose(float[][] source, float[][] target) {
        int columns = target.length;
        forBlocks(
                source.length,
                (block, from, to) -> {
                    for (int j = 0; j < columns; j++) {
                        float[] row = target[j];
                        for (int i = from; i < to; i++) {
                            row[i] = source[i][j];
                        }
                    }
                });
    }

    /** Sets all elements to 0. */
    static void clear(float[][] matrix) {
        for (float[] row : matrix) {
            Arrays.fill(row, 0);
        }
    }

    /** x += y. */
    static void add(float[] x, float[] y) {
        for (int i = 0; i < x.length; i++) {
            x[i] += y[i];
        }
    }

    /**
     * The inner product of two rows. Four sums that do not wait for one another; Java never
     * reorders a single one.
     */
    static float dot(float[] x, float[] y) {
        float sum0 = 0;
        float sum1 = 0;
        float sum2 = 0;
        float sum3 = 0;
        int i = 0;
        for (; i + 4 <= x.length; i += 4) {
            sum0 = Math.fma(x[i], y[i], sum0);
            sum1 = Math.fma(x[i + 1], y[i + 1], sum1);
            sum2 = Math.fma(x[i + 2], y[i + 2], sum2);
            sum3 = Math.fma(x[i + 3], y[i + 3], sum3);
        }
        for (; i < x.length; i++) {
            sum0 = Math.fma(x[i], y[i], sum0);
        }
        return (sum0 + sum1) + (sum2 + sum3);
    }
}
