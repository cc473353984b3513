package dev.tarpon.quant.demo;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.io.IOException;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** The measures of agreement on values worked out by hand, and the demo's sentences. */
class AgreementTest {
    @Test
    void test_cosine_of_known_angles() {
        assertEquals(1, Agreement.cosine(new float[] {1, 2}, new float[] {2, 4}), 1e-12);
        assertEquals(0, Agreement.cosine(new float[] {1, 0}, new float[] {0, 3}), 1e-12);
        assertEquals(-1, Agreement.cosine(new float[] {1, -1}, new float[] {-2, 2}), 1e-12);
        assertTrue(Double.isNaN(Agreement.cosine(new float[2], new float[] {1, 1})));
        assertThrows(
                IllegalArgumentException.class, () -> Agreement.cosine(new float[2], new float[3]));
    }

    @Test
    void test_spearman_counts_order_only() {
        double[] rising = {1, 2, 3, 4};
        assertEquals(1, Agreement.spearman(rising, new double[] {-5, 0, 0.1, 1e9}), 1e-12);
        assertEquals(-1, Agreement.spearman(rising, new double[] {4, 3, 2, 1}), 1e-12);
        // Differences of ranks 1, -1, 1, -1: 1 - 6 * 4 / (4 * 15) = 0.6.
        assertEquals(0.6, Agreement.spearman(rising, new double[] {2, 1, 4, 3}), 1e-12);
    }

    @Test
    void test_spearman_shares_ranks_of_ties() {
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
        double[] tied = {0, 7, 7, 9};
        double[] rising = {1, 2, 3, 4};
        assertEquals(4.5 / Math.sqrt(4.5 * 5), Agreement.spearman(tied, rising), 1e-12);
    }

    @Test
    void test_spearman_is_undefined_without_spread() {
        assertTrue(Double.isNaN(Agreement.spearman(new double[] {1}, new double[] {1})));
        assertTrue(Double.isNaN(Agreement.spearman(new double[] {1, 1}, new double[] {1, 2})));
    }

    @Test
    void test_sentence_pairs_are_many_and_different() throws IOException {
        List<SentencePairs.Pair> pairs = SentencePairs.load();
        assertTrue(pairs.size() >= 32, pairs.size() + " pairs");
        Set<String> sentences = new HashSet<>();
        for (SentencePairs.Pair pair : pairs) {
            assertTrue(sentences.add(pair.first()), pair.first());
            assertTrue(sentences.add(pair.second()), pair.second());
        }
    }

    @Test
    void test_axis_ends_at_round_numbers() {
        Axis axis = Axis.covering(-0.03, 1);
        assertEquals(-0.2, axis.low(), 1e-12);
        assertEquals(1, axis.high(), 1e-12);
        assertEquals("-0.2", axis.label(axis.ticks().getFirst()));
        assertEquals("0.0", axis.label(axis.ticks().get(1)));
        assertEquals("60", Axis.covering(0, 72).label(60));
        assertEquals("0.92", Axis.covering(0.9, 1).label(0.92));
    }
}
