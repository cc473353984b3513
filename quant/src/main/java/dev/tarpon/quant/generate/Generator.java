package dev.tarpon.quant.generate;

import java.util.Arrays;
import java.util.function.IntConsumer;

/** Continues a text token by token. Not thread-safe. */
public final class Generator {
    private final LlamaDecoder decoder;
    private final Attention attention;
    private final Sampler sampler;

    /** A generator over one sequence. */
    public Generator(LlamaDecoder decoder, Attention attention, Sampler sampler) {
        if (attention.batch() != 1) {
            throw new IllegalArgumentException(
                    "%d sequences; a generator runs one".formatted(attention.batch()));
        }
        this.decoder = decoder;
        this.attention = attention;
        this.sampler = sampler;
    }

    /**
     * What came out.
     *
     * @param tokens all of them, those that were given first
     * @param given how many were given
     * @param greedy the likeliest token at each place behind those given
     * @param promptTokens how many were run before the first was chosen
     * @param promptSeconds how long that took
     * @param seconds how long the others took, one at a time
     */
    public record Result(
            int[] tokens,
            int given,
            int[] greedy,
            int promptTokens,
            double promptSeconds,
            double seconds) {
        /** How many were generated. */
        public int generated() {
            return tokens.length - given;
        }

        /** Steps of one token each second, the first choice left out; NaN if there are none. */
        public double tokensPerSecond() {
            return (generated() - 1) / seconds;
        }
    }

    /**
     * Runs those tokens that the attention has not seen, and chooses further ones. The last one
     * chosen is not run.
     *
     * @param given the text so far; at least one token more than the attention has
     * @param count how many to generate, at least 1
     * @param listener is given each token as it is chosen
     * @throws IllegalArgumentException if the numbers do not fit, or the text becomes too long
     */
    public Result run(int[] given, int count, IntConsumer listener) {
        if (given.length <= attention.length() || count < 1) {
            throw new IllegalArgumentException(
                    "%d tokens are given and %d asked for; more than the cache's %d must be given"
                            .formatted(given.length, count, attention.length()));
        }
        int vocabulary = decoder.config().vocabulary();
        int[] tokens = Arrays.copyOf(given, Math.addExact(given.length, count));
        int[] greedy = new int[count];
        int[] prompt = Arrays.copyOfRange(given, attention.length(), given.length);
        long begin = System.nanoTime();
        float[] logits = decoder.forward(prompt, attention);
        long first = System.nanoTime();
        for (int i = 0; i < count; i++) {
            if (i > 0) {
                logits = decoder.forward(new int[] {tokens[given.length + i - 1]}, attention);
            }
            int last = logits.length - vocabulary;
            greedy[i] = Sampler.argmax(logits, last, vocabulary);
            tokens[given.length + i] = sampler.choose(logits, last, vocabulary, given.length + i);
            listener.accept(tokens[given.length + i]);
        }
        return new Result(
                tokens,
                given.length,
                greedy,
                prompt.length,
                (first - begin) / 1e9,
                (System.nanoTime() - first) / 1e9);
    }
}
