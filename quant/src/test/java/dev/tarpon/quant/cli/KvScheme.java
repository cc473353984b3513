package dev.tarpon.quant.cli;

import dev.tarpon.kv.KvMode;

import java.util.Arrays;

/**
 * The schemes of the cache from their definitions, in double: what keys and values become. One
 * token and all its heads at a time.
 */
final class KvScheme {
    /** Least-error step of a uniform grid for a standard normal at 2, 3 and 4 bits (Max, 1960). */
    private static final double[] STEPS = {0, 0, 0.9957, 0.5860, 0.3352};

    private final KvMode mode;
    private final int heads;
    private final int dim;
    private final double theta;
    private final boolean interleaved;

    KvScheme(KvMode mode, int heads, int dim, double theta, boolean interleaved) {
        this.mode = mode;
        this.heads = heads;
        this.dim = dim;
        this.theta = theta;
        this.interleaved = interleaved;
    }

    /** H x / sqrt(n) with Sylvester's H, by its definition. */
    static double[] hadamard(double[] x) {
        double[] y = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            for (int j = 0; j < x.length; j++) {
                y[i] += Integer.bitCount(i & j) % 2 == 0 ? x[j] : -x[j];
            }
            y[i] /= Math.sqrt(x.length);
        }
        return y;
    }

    /** Turns every head by a position. */
    double[] rope(double[] x, int position) {
        double[] y = x.clone();
        for (int head = 0; head < x.length; head += dim) {
            for (int pair = 0; pair < dim / 2; pair++) {
                int a = head + (interleaved ? 2 * pair : pair);
                int b = head + (interleaved ? 2 * pair + 1 : pair + dim / 2);
                double angle = position * Math.pow(theta, -2.0 * pair / dim);
                y[a] = x[a] * Math.cos(angle) - x[b] * Math.sin(angle);
                y[b] = x[b] * Math.cos(angle) + x[a] * Math.sin(angle);
            }
        }
        return y;
    }

    private static double half(double x) {
        return Float.float16ToFloat(Float.floatToFloat16((float) x));
    }

    /**
     * A grid around zero. The step reaches the largest value or, up to 4 bits, is a multiple of the
     * root mean square, whichever codes with less error; the scale is that of least squares.
     */
    private static double[] grid(double[] x, int bits) {
        double squares = 0;
        double largest = 0;
        for (double value : x) {
            squares += value * value;
            largest = Math.max(largest, Math.abs(value));
        }
        double[] best = scaled(x, levels(x, half(largest / (1 << (bits - 1))), bits));
        if (bits <= 4) {
            double step = half(STEPS[bits] * Math.sqrt(squares / x.length));
            double[] clipped = scaled(x, levels(x, step, bits));
            best = distance(x, clipped) < distance(x, best) ? clipped : best;
        }
        return best;
    }

    private static double[] levels(double[] x, double step, int bits) {
        double middle = (1 << (bits - 1)) - 0.5;
        double[] levels = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            double code = Math.floor(x[i] / step) + (1 << (bits - 1));
            levels[i] = Math.clamp(code, 0, 2 * middle) - middle;
        }
        return levels;
    }

    private static double[] scaled(double[] x, double[] levels) {
        double dot = 0;
        double square = 0;
        for (int i = 0; i < x.length; i++) {
            dot += x[i] * levels[i];
            square += levels[i] * levels[i];
        }
        double scale = half(dot / square);
        return Arrays.stream(levels).map(level -> level * scale).toArray();
    }

    private static double distance(double[] x, double[] y) {
        double sum = 0;
        for (int i = 0; i < x.length; i++) {
            sum += (x[i] - y[i]) * (x[i] - y[i]);
        }
        return sum;
    }

    /** Between minimum and maximum, shrunk at 2 bits, with a whole zero point. */
    private static double[] minMax(double[] x, int bits) {
        double clip = bits == 2 ? 0.8 : 1;
        double low = Double.POSITIVE_INFINITY;
        double high = Double.NEGATIVE_INFINITY;
        for (double value : x) {
            low = Math.min(low, clip * value);
            high = Math.max(high, clip * value);
        }
        double scale = (high - low) / ((1 << bits) - 1);
        double zero = Math.rint(-low / scale);
        double[] y = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            double code = Math.clamp(Math.rint(x[i] / scale) + zero, 0, (1 << bits) - 1);
            y[i] = (code - zero) * half(scale);
        }
        return y;
    }

    private static double[] part(double[] x, int at, int count) {
        return Arrays.copyOfRange(x, at, at + count);
    }

    private double[] coded(double[] x, int at, int bits) {
        double[] head = part(x, at, dim);
        if (bits == 16) {
            return Arrays.stream(head).map(KvScheme::half).toArray();
        }
        return mode == KvMode.TARPON ? grid(head, bits) : minMax(head, bits);
    }

    /** A token's values as the cache gives them back; head_dim is at most 128. */
    double[] value(double[] v, int bits) {
        double[] result = new double[v.length];
        for (int at = 0; at < v.length; at += dim) {
            double[] rotated = hadamard(part(v, at, dim));
            System.arraycopy(hadamard(coded(rotated, 0, bits)), 0, result, at, dim);
        }
        return result;
    }

    /** A token's keys as the cache gives them back, after rotary positions. */
    double[] key(double[] k, int position, int bits, double[] mean, int[] order) {
        return mode == KvMode.TARPON
                ? tarponKey(k, position, bits, mean)
                : rotatedKey(k, position, bits, order);
    }

    private double[] tarponKey(double[] k, int position, int bits, double[] mean) {
        double[] centred = k.clone();
        for (int c = 0; c < k.length; c++) {
            centred[c] -= mean[c];
        }
        double[] turned = rope(centred, position);
        double[] result = rope(mean, position);
        for (int at = 0; at < k.length; at += dim) {
            double[] back = hadamard(coded(hadamard(part(turned, at, dim)), 0, bits));
            for (int i = 0; i < dim; i++) {
                result[at + i] += back[i];
            }
        }
        return result;
    }

    private double[] rotatedKey(double[] k, int position, int bits, int[] order) {
        int group = (heads % 4 == 0 ? 4 : heads % 2 == 0 ? 2 : 1) * dim;
        double[] rotated = new double[k.length];
        for (int at = 0; at < k.length; at += group) {
            System.arraycopy(hadamard(part(k, at, group)), 0, rotated, at, group);
        }
        double[] stored = new double[k.length];
        for (int c = 0; c < k.length; c++) {
            stored[c] = rotated[order[c]];
        }
        double[] recovered = new double[k.length];
        for (int at = 0; at < k.length; at += dim) {
            double[] values = coded(stored, at, bits);
            for (int i = 0; i < dim; i++) {
                recovered[order[at + i]] = values[i];
            }
        }
        double[] keys = new double[k.length];
        for (int at = 0; at < k.length; at += group) {
            System.arraycopy(hadamard(part(recovered, at, group)), 0, keys, at, group);
        }
        return rope(keys, position);
    }

    /**
     * Causal attention of one query head over keys after rotary positions and values.
     *
     * @param q [head_dim], before rotary positions
     * @param kvHead the head of keys and values
     */
    double[] attend(double[] q, int position, int kvHead, double[][] keys, double[][] values) {
        double[] query = rope(q, position);
        double[] p = new double[position + 1];
        double top = Double.NEGATIVE_INFINITY;
        for (int j = 0; j <= position; j++) {
            for (int i = 0; i < dim; i++) {
                p[j] += query[i] * keys[j][kvHead * dim + i] / Math.sqrt(dim);
            }
            top = Math.max(top, p[j]);
        }
        double sum = 0;
        double[] o = new double[dim];
        for (int j = 0; j <= position; j++) {
            double weight = Math.exp(p[j] - top);
            sum += weight;
            for (int i = 0; i < dim; i++) {
                o[i] += weight * values[j][kvHead * dim + i];
            }
        }
        for (int i = 0; i < dim; i++) {
            o[i] /= sum;
        }
        return o;
    }
}
