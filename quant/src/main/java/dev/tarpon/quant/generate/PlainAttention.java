package dev.tarpon.quant.generate;

import dev.tarpon.quant.llama.LlamaConfig;

import java.util.stream.IntStream;

/**
 * Attention over keys and values in fp32, plain Java: what caches are compared with, and what
 * calibration runs with.
 */
public final class PlainAttention implements Attention {
    private final LlamaConfig config;
    private final int batch;
    private final int maxTokens;
    private final double[] frequencies;
    private final float[][] keys;
    private final float[][] values;
    private int length;

    /** Room for {@code batch} sequences of {@code maxTokens} tokens each. */
    public PlainAttention(LlamaConfig config, int batch, int maxTokens) {
        this.config = config;
        this.batch = batch;
        this.maxTokens = maxTokens;
        int size = Math.multiplyExact(Math.multiplyExact(batch, maxTokens), config.keyValueWidth());
        keys = new float[config.layers()][size];
        values = new float[config.layers()][size];
        frequencies = new double[config.headDim() / 2];
        for (int i = 0; i < frequencies.length; i++) {
            frequencies[i] = Math.pow(config.ropeTheta(), -2.0 * i / config.headDim());
        }
    }

    @Override
    public int batch() {
        return batch;
    }

    @Override
    public int length() {
        return length;
    }

    @Override
    public void step(int layer, int count, float[] q, float[] k, float[] v, float[] o) {
        if (length + count > maxTokens) {
            throw new IllegalArgumentException(
                    "%d tokens behind %d; there is room for %d"
                            .formatted(count, length, maxTokens));
        }
        int width = config.keyValueWidth();
        float[] turned = q.clone();
        for (int row = 0; row < batch; row++) {
            for (int t = 0; t < count; t++) {
                int from = (row * count + t) * width;
                int to = (row * maxTokens + length + t) * width;
                System.arraycopy(k, from, keys[layer], to, width);
                System.arraycopy(v, from, values[layer], to, width);
                rotate(keys[layer], to, width, length + t);
                int query = (row * count + t) * config.queryWidth();
                rotate(turned, query, config.queryWidth(), length + t);
            }
        }
        IntStream.range(0, batch * config.queryHeads())
                .parallel()
                .forEach(
                        i -> {
                            int row = i / config.queryHeads();
                            int head = i % config.queryHeads();
                            for (int t = 0; t < count; t++) {
                                attend(layer, row, head, count, t, turned, o);
                            }
                        });
        if (layer == config.layers() - 1) {
            length += count;
        }
    }

    /** Turns every head of a token by its position, in the half layout. */
    private void rotate(float[] x, int at, int width, int position) {
        int half = frequencies.length;
        for (int i = 0; i < half; i++) {
            double cos = Math.cos(position * frequencies[i]);
            double sin = Math.sin(position * frequencies[i]);
            for (int head = at + i; head < at + width; head += 2 * half) {
                double a = x[head];
                double b = x[head + half];
                x[head] = (float) (a * cos - b * sin);
                x[head + half] = (float) (b * cos + a * sin);
            }
        }
    }

    /** Token t of this step, one query head. */
    private void attend(int layer, int row, int head, int count, int t, float[] q, float[] o) {
        int dim = config.headDim();
        int query = ((row * count + t) * config.queryHeads() + head) * dim;
        int keyHead = head / config.groupHeads() * dim;
        int visible = length + t + 1;
        double scale = 1 / Math.sqrt(dim);
        double[] scores = new double[visible];
        double top = Double.NEGATIVE_INFINITY;
        for (int j = 0; j < visible; j++) {
            int key = (row * maxTokens + j) * config.keyValueWidth() + keyHead;
            float dot = 0;
            for (int i = 0; i < dim; i++) {
                dot += q[query + i] * keys[layer][key + i];
            }
            scores[j] = dot * scale;
            top = Math.max(top, scores[j]);
        }
        double sum = 0;
        for (int j = 0; j < visible; j++) {
            scores[j] = Math.exp(scores[j] - top);
            sum += scores[j];
        }
        float[] out = new float[dim];
        for (int j = 0; j < visible; j++) {
            int value = (row * maxTokens + j) * config.keyValueWidth() + keyHead;
            float weight = (float) (scores[j] / sum);
            for (int i = 0; i < dim; i++) {
                out[i] += weight * values[layer][value + i];
            }
        }
        System.arraycopy(out, 0, o, query, dim);
    }

    @Override
    public void close() {}
}
