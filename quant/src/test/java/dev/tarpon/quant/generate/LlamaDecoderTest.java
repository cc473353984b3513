package dev.tarpon.quant.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.Device;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.kv.KvDevices;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.llama.LlamaConfig;
import dev.tarpon.quant.llama.LlamaNames;
import dev.tarpon.quant.llama.LlamaWeights;
import dev.tarpon.quant.model.FloatLinear;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.util.Arrays;

/** The decoder against the model's definition in double, and over the library's cache. */
class LlamaDecoderTest {
    private static final LlamaWeights WEIGHTS = TinyLlama.weights(1);
    private static final LlamaConfig CONFIG = TinyLlama.CONFIG;

    /** Rows of x times a matrix [outFeatures, inFeatures]. */
    private static double[][] dense(double[][] x, String name) {
        float[] w = WEIGHTS.values(name);
        int in = x[0].length;
        double[][] y = new double[x.length][w.length / in];
        for (int t = 0; t < x.length; t++) {
            for (int j = 0; j < y[t].length; j++) {
                for (int i = 0; i < in; i++) {
                    y[t][j] += x[t][i] * w[j * in + i];
                }
            }
        }
        return y;
    }

    private static double[][] norm(double[][] x, String name) {
        float[] w = WEIGHTS.values(name);
        double[][] y = new double[x.length][];
        for (int t = 0; t < x.length; t++) {
            double square = Arrays.stream(x[t]).map(v -> v * v).average().orElseThrow();
            y[t] = x[t].clone();
            for (int i = 0; i < w.length; i++) {
                y[t][i] *= w[i] / Math.sqrt(square + CONFIG.rmsNormEpsilon());
            }
        }
        return y;
    }

    private static void rotate(double[][] x) {
        int dim = CONFIG.headDim();
        for (int t = 0; t < x.length; t++) {
            for (int c = 0; c < x[t].length; c++) {
                int pair = c % dim;
                if (pair < dim / 2) {
                    double angle = t * Math.pow(CONFIG.ropeTheta(), -2.0 * pair / dim);
                    double a = x[t][c];
                    double b = x[t][c + dim / 2];
                    x[t][c] = a * Math.cos(angle) - b * Math.sin(angle);
                    x[t][c + dim / 2] = b * Math.cos(angle) + a * Math.sin(angle);
                }
            }
        }
    }

    private static double[][] attention(double[][] q, double[][] k, double[][] v) {
        rotate(q);
        rotate(k);
        int dim = CONFIG.headDim();
        double[][] o = new double[q.length][q[0].length];
        for (int t = 0; t < q.length; t++) {
            for (int head = 0; head < CONFIG.queryHeads(); head++) {
                int kv = head / CONFIG.groupHeads() * dim;
                double[] p = new double[t + 1];
                double sum = 0;
                for (int j = 0; j <= t; j++) {
                    double dot = 0;
                    for (int i = 0; i < dim; i++) {
                        dot += q[t][head * dim + i] * k[j][kv + i];
                    }
                    p[j] = Math.exp(dot / Math.sqrt(dim));
                    sum += p[j];
                }
                for (int j = 0; j <= t; j++) {
                    for (int i = 0; i < dim; i++) {
                        o[t][head * dim + i] += p[j] / sum * v[j][kv + i];
                    }
                }
            }
        }
        return o;
    }

    /** Logits [tokens][vocabulary] by the definition. */
    private static double[][] reference(int[] tokens) {
        double[][] x = new double[tokens.length][CONFIG.hidden()];
        float[] embedding = WEIGHTS.values(LlamaNames.EMBEDDING);
        for (int t = 0; t < tokens.length; t++) {
            for (int i = 0; i < CONFIG.hidden(); i++) {
                x[t][i] = embedding[tokens[t] * CONFIG.hidden() + i];
            }
        }
        for (int layer = 0; layer < CONFIG.layers(); layer++) {
            double[][] n = norm(x, LlamaNames.INPUT_NORM.of(layer));
            double[][] o =
                    attention(
                            dense(n, LlamaNames.QUERY.of(layer)),
                            dense(n, LlamaNames.KEY.of(layer)),
                            dense(n, LlamaNames.VALUE.of(layer)));
            add(x, dense(o, LlamaNames.ATTENTION_OUTPUT.of(layer)));
            n = norm(x, LlamaNames.POST_ATTENTION_NORM.of(layer));
            double[][] gate = dense(n, LlamaNames.GATE.of(layer));
            double[][] up = dense(n, LlamaNames.UP.of(layer));
            for (int t = 0; t < x.length; t++) {
                for (int i = 0; i < gate[t].length; i++) {
                    gate[t][i] *= up[t][i] / (1 + Math.exp(-gate[t][i]));
                }
            }
            add(x, dense(gate, LlamaNames.DOWN.of(layer)));
        }
        return dense(norm(x, LlamaNames.FINAL_NORM), LlamaNames.EMBEDDING);
    }

    private static void add(double[][] x, double[][] y) {
        for (int t = 0; t < x.length; t++) {
            for (int i = 0; i < x[t].length; i++) {
                x[t][i] += y[t][i];
            }
        }
    }

    /** The root mean square of the differences from the reference, over that of the reference. */
    private static double distance(float[] logits, double[][] reference) {
        double errors = 0;
        double squares = 0;
        int width = CONFIG.vocabulary();
        for (int i = 0; i < logits.length; i++) {
            double expected = reference[i / width][i % width];
            errors += (logits[i] - expected) * (logits[i] - expected);
            squares += expected * expected;
        }
        return Math.sqrt(errors / squares);
    }

    private static float[] runInSteps(LlamaDecoder decoder, Attention attention, int[] tokens) {
        int[] steps = {5, 1, 1, 13, 8, 1};
        float[] logits = new float[tokens.length * CONFIG.vocabulary()];
        int done = 0;
        for (int i = 0; done < tokens.length; i++) {
            int count = Math.min(steps[i % steps.length], tokens.length - done);
            float[] part =
                    decoder.forward(Arrays.copyOfRange(tokens, done, done + count), attention);
            System.arraycopy(part, 0, logits, done * CONFIG.vocabulary(), part.length);
            done += count;
            assertEquals(done, attention.length());
        }
        return logits;
    }

    @Test
    void test_decoder_is_the_model_in_any_steps() {
        int[] tokens = TinyLlama.tokens(2, 80);
        double[][] expected = reference(tokens);
        try (var decoder = new LlamaDecoder(WEIGHTS, FloatLinear::new)) {
            try (var attention = new PlainAttention(CONFIG, 1, 80)) {
                assertTrue(distance(decoder.forward(tokens, attention), expected) < 1e-5);
            }
            try (var attention = new PlainAttention(CONFIG, 1, 80)) {
                double steps = distance(runInSteps(decoder, attention, tokens), expected);
                assertTrue(steps < 1e-5, "in steps: " + steps);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "sim", "cuda"})
    void test_cache_of_16_bits_is_the_model_too(String spec) {
        int[] tokens = TinyLlama.tokens(2, spec.equals("cpu") ? 150 : 80);
        double[][] expected = reference(tokens);
        try (var device = KvDevices.open(spec);
                var decoder = new LlamaDecoder(WEIGHTS, FloatLinear::new);
                var attention = attention(device, KvFormat.HALF, 1, tokens.length)) {
            // Binary16 keeps 11 bits of keys and values: up to 5e-4 of each; two layers add up.
            double distance = distance(runInSteps(decoder, attention, tokens), expected);
            assertTrue(distance < 2e-3, "distance " + distance);
        }
    }

    private static CachedAttention attention(
            Device device, KvFormat format, int batch, int maxTokens) {
        return new CachedAttention(
                device, CONFIG, format, layer -> KvCalibration.NONE, batch, maxTokens);
    }

    @Test
    void test_fewer_bits_are_farther_off_and_take_fewer_bytes() {
        int[] tokens = TinyLlama.tokens(2, 128);
        double[][] expected = reference(tokens);
        double last = 0;
        long lastBytes = Long.MAX_VALUE;
        try (var device = Device.open("cpu");
                var decoder = new LlamaDecoder(WEIGHTS, FloatLinear::new)) {
            for (int bits : new int[] {16, 8, 4, 3, 2}) {
                KvFormat format = new KvFormat(KvMode.TARPON, bits, 0);
                try (var attention = attention(device, format, 1, 128)) {
                    double distance = distance(runInSteps(decoder, attention, tokens), expected);
                    assertTrue(distance > last, bits + " bits: " + distance + " after " + last);
                    last = distance;
                    double bytes = 2.0 * 128 * CONFIG.keyValueWidth() * CONFIG.layers() / 8;
                    assertEquals(bytes * attention.bitsPerValue(), attention.usedBytes());
                    assertTrue(attention.usedBytes() < lastBytes);
                    lastBytes = attention.usedBytes();
                }
            }
        }
    }

    @Test
    void test_sequences_of_a_batch_do_not_touch_one_another() {
        int count = 21;
        int[] first = TinyLlama.tokens(3, count);
        int[] second = TinyLlama.tokens(4, count);
        int[] both = new int[2 * count];
        System.arraycopy(first, 0, both, 0, count);
        System.arraycopy(second, 0, both, count, count);
        KvFormat format = new KvFormat(KvMode.TARPON, 4, 2, 4, 16);
        try (var device = Device.open("cpu");
                var decoder = new LlamaDecoder(WEIGHTS, FloatLinear::new);
                var pair = attention(device, format, 2, 64);
                var alone = attention(device, format, 1, 64)) {
            float[] together = decoder.forward(both, pair);
            float[] expected = decoder.forward(second, alone);
            for (int i = 0; i < expected.length; i++) {
                assertEquals(expected[i], together[expected.length + i], 1e-4, "logit " + i);
            }
        }
    }

    @Test
    void test_bad_tokens_are_named() {
        try (var decoder = new LlamaDecoder(WEIGHTS, FloatLinear::new);
                var attention = new PlainAttention(CONFIG, 2, 16)) {
            assertMessage(() -> decoder.forward(new int[3], attention), "3 tokens for 2");
            assertMessage(() -> decoder.forward(new int[] {1, 256}, attention), "id 256");
            assertMessage(
                    () -> decoder.forward(new int[40], attention), "20 tokens", "room for 16");
            assertMessage(() -> decoder.forward(new int[600], attention), "256 positions");
        }
    }

    private static void assertMessage(Runnable call, String... parts) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }
}
