package dev.tarpon.quant.generate;

import java.util.SplittableRandom;

/**
 * Chooses tokens from logits. The choice at a position depends on the seed and the position only,
 * so that a run that goes on later chooses as if it had not stopped.
 *
 * @param temperature 0 takes the likeliest token; else logits are divided by it
 * @param seed of the choices
 */
public record Sampler(double temperature, long seed) {
    /** Checks the temperature. */
    public Sampler {
        if (!(temperature >= 0) || Double.isInfinite(temperature)) {
            throw new IllegalArgumentException(
                    "temperature is %s; it must be finite and >= 0".formatted(temperature));
        }
    }

    /** Always the likeliest token. */
    public static final Sampler GREEDY = new Sampler(0, 0);

    /**
     * The token at a position.
     *
     * @param logits holds the vocabulary's from {@code at} on
     */
    public int choose(float[] logits, int at, int vocabulary, int position) {
        int best = argmax(logits, at, vocabulary);
        if (temperature == 0) {
            return best;
        }
        double[] sums = new double[vocabulary];
        double sum = 0;
        for (int i = 0; i < vocabulary; i++) {
            sum += Math.exp((logits[at + i] - logits[at + best]) / temperature);
            sums[i] = sum;
        }
        // The odd factor spreads neighbouring positions over the generator's seeds.
        double point = new SplittableRandom(seed * 0x9E3779B97F4A7C15L + position).nextDouble(sum);
        int token = 0;
        while (token < vocabulary - 1 && sums[token] <= point) {
            token++;
        }
        return token;
    }

    /** The likeliest token; the first of equals. */
    public static int argmax(float[] logits, int at, int vocabulary) {
        int best = 0;
        for (int i = 1; i < vocabulary; i++) {
            if (logits[at + i] > logits[at + best]) {
                best = i;
            }
        }
        return best;
    }
}
