package dev.tarpon.quant.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.quant.TestPaths;
import dev.tarpon.quant.demo.Agreement;
import dev.tarpon.quant.tokenizer.WordPieceTokenizer;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The encoder against ONNX Runtime, and 4-bit layers against what their weights stand for. */
class BertEncoderTest {
    private static final List<String> SENTENCES =
            List.of(
                    "The river has been frozen since the middle of January.",
                    "Hello, world!",
                    "A man is playing a guitar on a small stage.",
                    "x");

    /** Every 32nd value of the unit embeddings by ONNX Runtime 1.20 with mean pooling. */
    private static final float[][] ONNX_RUNTIME = {
        {
            0.0217590f,
            -0.0158419f,
            0.0738928f,
            -0.0051743f,
            0.0312211f,
            0.0274497f,
            0.0909986f,
            0.0692616f,
            -0.0047175f,
            0.0462870f,
            0.0402195f,
            0.0576059f
        },
        {
            -0.0381771f,
            0.0587470f,
            0.0900084f,
            0.0698688f,
            0.0635852f,
            0.0143719f,
            -0.0152030f,
            0.1321730f,
            -0.0307133f,
            0.0165849f,
            -0.0785505f,
            -0.0432335f
        }
    };

    private static BertWeights weights;
    private static List<int[]> tokens;
    private static float[][] original;

    @BeforeAll
    static void embedOriginal() throws IOException {
        var tokenizer = WordPieceTokenizer.load(TestPaths.model("all-minilm-l6-v2-tokenizer.json"));
        tokens = SENTENCES.stream().map(tokenizer::encode).toList();
        weights =
                BertWeights.fromOnnx(
                        TestPaths.model("all-minilm-l6-v2.onnx"), BertConfig.ALL_MINILM_L6_V2);
        try (var encoder = new BertEncoder(weights, (name, matrix) -> new FloatLinear(matrix))) {
            original = encoder.embed(tokens);
        }
    }

    @Test
    void test_encoder_agrees_with_onnx_runtime() {
        for (int s = 0; s < ONNX_RUNTIME.length; s++) {
            float[] sampled = new float[ONNX_RUNTIME[s].length];
            for (int i = 0; i < sampled.length; i++) {
                sampled[i] = original[s][32 * i];
            }
            // Both compute in fp32; through six layers the order of sums moves a few units of 1e-7.
            assertArrayEquals(ONNX_RUNTIME[s], sampled, 2e-6f, SENTENCES.get(s));
        }
    }

    @Test
    void test_encoder_embeds_alone_as_in_a_batch() {
        try (var encoder = new BertEncoder(weights, (name, matrix) -> new FloatLinear(matrix))) {
            assertEquals(36, encoder.linearCount());
            assertEquals(4L * 6 * (4 * 384 * 384 + 2 * 384 * 1536), encoder.linearWeightBytes());
            for (int s = 0; s < tokens.size(); s++) {
                float[][] alone = encoder.embed(List.of(tokens.get(s)));
                assertArrayEquals(original[s], alone[0], SENTENCES.get(s));
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"F32, 128, 0.999999", "F16, 128, 0.9999", "BF16, 128, 0.9995", "F32, -1, 0.999999"})
    void test_quantised_layers_are_faithful(DType activation, int group, double bound) {
        Map<String, QuantizedWeights> quantized = new HashMap<>();
        weights.matrices()
                .forEach(
                        (name, matrix) ->
                                quantized.put(name, WeightQuantizer.quantize(matrix, group)));
        float[][] dequantized;
        try (var encoder =
                new BertEncoder(
                        weights,
                        (name, matrix) ->
                                new FloatLinear(WeightQuantizer.dequantize(quantized.get(name))))) {
            dequantized = encoder.embed(tokens);
        }
        try (var device = Device.open("cpu");
                var runtime = new LinearRuntime(device, activation);
                var encoder =
                        new BertEncoder(
                                weights, (name, matrix) -> runtime.linear(quantized.get(name)))) {
            float[][] fourBit = encoder.embed(tokens);
            // Another batch size makes the buffers anew, and must not change the result.
            float[][] again = encoder.embed(tokens.subList(0, 1));
            for (int s = 0; s < fourBit.length; s++) {
                double cosine = Agreement.cosine(fourBit[s], dequantized[s]);
                assertTrue(cosine >= bound, SENTENCES.get(s) + ": " + cosine);
            }
            assertTrue(Agreement.cosine(fourBit[0], again[0]) >= bound);
            assertTrue(encoder.linearWeightBytes() < 42_467_328 / 7);
        }
    }

    @Test
    void test_encoder_refuses_impossible_sentences() {
        try (var encoder = new BertEncoder(weights, (name, matrix) -> new FloatLinear(matrix))) {
            assertRefused(encoder, new int[0], "0 tokens");
            assertRefused(encoder, new int[513], "513 tokens");
            assertRefused(encoder, new int[] {101, 30522}, "token 1 has id 30522");
            assertRefused(encoder, new int[] {-1}, "token 0 has id -1");
        }
    }

    private static void assertRefused(BertEncoder encoder, int[] sentence, String message) {
        var failure =
                assertThrows(
                        IllegalArgumentException.class, () -> encoder.embed(List.of(sentence)));
        assertTrue(failure.getMessage().contains(message), failure.getMessage());
    }
}
