package dev.tarpon.quant.kvreport;

import dev.tarpon.kv.KvCache;
import dev.tarpon.quant.generate.Attention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.Sampler;

import java.util.function.IntConsumer;
import java.util.function.IntFunction;

/**
 * How a model predicts a text over some cache.
 *
 * @param tokens how many were predicted
 * @param loss mean of -log p of each token, in nats
 * @param likeliest the likeliest token at each place
 */
public record Prediction(int tokens, double loss, int[] likeliest) {
    /** exp of the loss. */
    public double perplexity() {
        return Math.exp(loss);
    }

    /** The share of places where another run finds the same token likeliest. */
    public double agreement(Prediction other) {
        int equal = 0;
        for (int i = 0; i < likeliest.length; i++) {
            equal += likeliest[i] == other.likeliest[i] ? 1 : 0;
        }
        return (double) equal / likeliest.length;
    }

    /**
     * Runs windows of a text side by side, by as many tokens at a time as one attend takes: every
     * token sees what the cache has made of those before it.
     *
     * @param text ids
     * @param windows how many windows
     * @param window tokens of each; the first of a window is not predicted
     * @param attention an empty one for so many sequences
     * @param listener called with the tokens of each step
     */
    public static Prediction of(
            LlamaDecoder decoder,
            int[] text,
            int windows,
            int window,
            IntFunction<Attention> attention,
            IntConsumer listener) {
        int vocabulary = decoder.config().vocabulary();
        int[] likeliest = new int[windows * (window - 1)];
        double loss = 0;
        int places = 0;
        try (Attention cache = attention.apply(windows)) {
            // The last token of a window is only predicted.
            for (int done = 0; done < window - 1; done += KvCache.MAX_QUERIES) {
                int count = Math.min(KvCache.MAX_QUERIES, window - 1 - done);
                int[] step = new int[windows * count];
                for (int row = 0; row < windows; row++) {
                    System.arraycopy(text, row * window + done, step, row * count, count);
                }
                float[] logits = decoder.forward(step, cache);
                for (int i = 0; i < step.length; i++) {
                    int next = text[i / count * window + done + i % count + 1];
                    loss += loss(logits, i * vocabulary, vocabulary, next);
                    likeliest[places++] = Sampler.argmax(logits, i * vocabulary, vocabulary);
                }
                listener.accept(step.length);
            }
        }
        return new Prediction(places, loss / places, likeliest);
    }

    private static double loss(float[] logits, int at, int vocabulary, int token) {
        double top = logits[at + Sampler.argmax(logits, at, vocabulary)];
        double sum = 0;
        for (int i = 0; i < vocabulary; i++) {
            sum += Math.exp(logits[at + i] - top);
        }
        return Math.log(sum) + top - logits[at + token];
    }
}
