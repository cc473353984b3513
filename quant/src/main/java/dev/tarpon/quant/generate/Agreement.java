package dev.tarpon.quant.generate;

import java.util.Arrays;

/**
 * How a run agrees with another cache on the same text.
 *
 * @param positions how many tokens were chosen
 * @param equal at how many of them both caches find the same token likeliest
 * @param firstDifference the first place where they do not; -1 if there is none. Up to there a
 *     greedy run over the other cache writes the same text
 */
public record Agreement(int positions, int equal, int firstDifference) {
    /**
     * Runs the text of a result over another cache, and compares the likeliest tokens.
     *
     * @param other empty
     */
    public static Agreement of(Generator.Result result, LlamaDecoder decoder, Attention other) {
        int vocabulary = decoder.config().vocabulary();
        int[] tokens = result.tokens();
        float[] logits = decoder.forward(Arrays.copyOf(tokens, tokens.length - 1), other);
        int equal = 0;
        int first = -1;
        for (int i = 0; i < result.generated(); i++) {
            int at = (result.given() - 1 + i) * vocabulary;
            if (Sampler.argmax(logits, at, vocabulary) == result.greedy()[i]) {
                equal++;
            } else if (first < 0) {
                first = i;
            }
        }
        return new Agreement(result.generated(), equal, first);
    }
}
