package dev.tarpon.quant.kvreport;

import dev.tarpon.quant.generate.Attention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.Sampler;

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
     * Runs windows of a text side by side. Over a cache every token sees what the cache has made of
     * those before it.
     *
     * @param text ids
     * @param windows how many windows
     * @param window tokens of each; the first of a window is not predicted
     * @param attention an empty one for so many sequences
     */
    public static Prediction of(
            LlamaDecoder decoder, int[] text, int windows, int window, Attention attention) {
        int vocabulary = decoder.config().vocabulary();
        // The last token of a window is only predicted.
        int count = window - 1;
        int[] run = new int[windows * count];
        for (int row = 0; row < windows; row++) {
            System.arraycopy(text, row * window, run, row * count, count);
        }
        float[] logits = decoder.forward(run, attention);
        int[] likeliest = new int[run.length];
        double loss = 0;
        for (int i = 0; i < run.length; i++) {
            int next = text[i / count * window + i % count + 1];
            loss += loss(logits, i * vocabulary, vocabulary, next);
            likeliest[i] = Sampler.argmax(logits, i * vocabulary, vocabulary);
        }
        return new Prediction(run.length, loss / run.length, likeliest);
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
