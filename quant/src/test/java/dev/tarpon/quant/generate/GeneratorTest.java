package dev.tarpon.quant.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.quant.model.FloatLinear;

import org.junit.jupiter.api.Test;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The loop, the choices and the text. */
class GeneratorTest {
    @Test
    void test_greedy_tokens_are_those_of_whole_runs() {
        int[] prompt = TinyLlama.tokens(1, 9);
        List<Integer> streamed = new ArrayList<>();
        try (var decoder = new LlamaDecoder(TinyLlama.weights(2), FloatLinear::new);
                var attention = new PlainAttention(TinyLlama.CONFIG, 1, 30)) {
            Generator.Result result =
                    new Generator(decoder, attention, Sampler.GREEDY)
                            .run(prompt, 12, streamed::add);
            assertEquals(12, result.generated());
            assertEquals(9, result.promptTokens());
            assertEquals(20, attention.length(), "the last token is not run");
            int[] tokens = result.tokens();
            for (int i = 9; i < tokens.length; i++) {
                try (var fresh = new PlainAttention(TinyLlama.CONFIG, 1, 30)) {
                    float[] logits = decoder.forward(Arrays.copyOf(tokens, i), fresh);
                    assertEquals(
                            Sampler.argmax(logits, logits.length - 256, 256), tokens[i], "at " + i);
                }
                assertEquals(tokens[i], streamed.get(i - 9));
            }
            try (var fresh = new PlainAttention(TinyLlama.CONFIG, 1, 30)) {
                assertEquals(new Agreement(12, 12, -1), Agreement.of(result, decoder, fresh));
            }
            try (var fresh = new PlainAttention(TinyLlama.CONFIG, 1, 30)) {
                result.greedy()[3] ^= 1;
                result.greedy()[7] ^= 1;
                assertEquals(new Agreement(12, 10, 3), Agreement.of(result, decoder, fresh));
            }
            String message =
                    assertThrows(
                                    IllegalArgumentException.class,
                                    () ->
                                            new Generator(decoder, attention, Sampler.GREEDY)
                                                    .run(prompt, 1, token -> {}))
                            .getMessage();
            assertTrue(message.contains("9 tokens are given"), message);
        }
    }

    @Test
    void test_draws_follow_the_probabilities() {
        float[] logits = {9, (float) Math.log(1), (float) Math.log(2), (float) Math.log(5), 9};
        int[] counts = new int[3];
        var sampler = new Sampler(1, 42);
        int draws = 20_000;
        for (int position = 0; position < draws; position++) {
            counts[sampler.choose(logits, 1, 3, position)]++;
        }
        double[] expected = {1 / 8.0, 2 / 8.0, 5 / 8.0};
        for (int i = 0; i < 3; i++) {
            // Five standard deviations of a binomial count.
            double deviation = Math.sqrt(draws * expected[i] * (1 - expected[i]));
            assertEquals(draws * expected[i], counts[i], 5 * deviation, "token " + i);
        }
        assertEquals(2, Sampler.GREEDY.choose(logits, 1, 3, 0));
        assertEquals(2, new Sampler(1e-3, 1).choose(logits, 1, 3, 0));
        for (double bad : new double[] {-1, Double.NaN, Double.POSITIVE_INFINITY}) {
            assertThrows(IllegalArgumentException.class, () -> new Sampler(bad, 1));
        }
    }

    @Test
    void test_text_streams_by_characters() {
        var decoder = new ByteDecoder();
        List<String> pieces = new ArrayList<>();
        for (byte b : "a\u00e9\u20ac\ud83d\ude00z".getBytes(StandardCharsets.UTF_8)) {
            pieces.add(decoder.add(b & 0xff));
        }
        String[] expected = {"a", "", "\u00e9", "", "", "\u20ac", "", "", "", "\ud83d\ude00", "z"};
        assertArrayEquals(expected, pieces.toArray());
        assertEquals("", decoder.finish());
        assertEquals("\ufffd", decoder.add(0xff));
        assertEquals("", decoder.add(0xe2));
        assertEquals("\ufffd", decoder.finish());
        assertEquals("x", decoder.add('x'));
    }
}
