package dev.tarpon.quant.kv;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.Device;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.TestPaths;
import dev.tarpon.quant.generate.Attention;
import dev.tarpon.quant.generate.LlamaDecoder;
import dev.tarpon.quant.generate.PlainAttention;
import dev.tarpon.quant.generate.TinyLlama;
import dev.tarpon.quant.model.FloatLinear;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Statistics of keys, and the file that keeps them. */
class CalibratorTest {
    private static final CalibrationSource SOURCE =
            new CalibrationSource("", "book.txt", "ab12", 96, 32, "cd34");

    @TempDir Path folder;

    private static ModelCalibration calibrate(int[] tokens, int window) {
        try (Device device = Device.open("cpu");
                var decoder = new LlamaDecoder(TinyLlama.weights(1), FloatLinear::new)) {
            var calibrator = new Calibrator(decoder);
            calibrator.run(tokens, window, done -> {});
            return calibrator.result(device, SOURCE);
        }
    }

    @Test
    void test_means_and_deviations_are_those_of_the_keys() {
        int[] tokens = TinyLlama.tokens(7, 100);
        ModelCalibration calibration = calibrate(tokens, 32);
        List<float[]> keys = new ArrayList<>();
        try (var decoder = new LlamaDecoder(TinyLlama.weights(1), FloatLinear::new)) {
            for (int at = 0; at < 96; at += 32) {
                try (var plain = new PlainAttention(TinyLlama.CONFIG, 1, 32)) {
                    Attention tap =
                            new Attention() {
                                @Override
                                public int batch() {
                                    return 1;
                                }

                                @Override
                                public int length() {
                                    return plain.length();
                                }

                                @Override
                                public void step(
                                        int layer,
                                        int count,
                                        float[] q,
                                        float[] k,
                                        float[] v,
                                        float[] o) {
                                    if (layer == 1) {
                                        keys.add(k.clone());
                                    }
                                    plain.step(layer, count, q, k, v, o);
                                }

                                @Override
                                public void close() {}
                            };
                    decoder.forward(Arrays.copyOfRange(tokens, at, at + 32), tap);
                }
            }
        }
        int width = TinyLlama.CONFIG.keyValueWidth();
        ModelCalibration.Layer layer = calibration.layers().get(1);
        for (int c = 0; c < width; c++) {
            double sum = 0;
            double squares = 0;
            for (float[] window : keys) {
                for (int t = 0; t < 32; t++) {
                    sum += window[t * width + c];
                    squares += (double) window[t * width + c] * window[t * width + c];
                }
            }
            double mean = sum / 96;
            assertEquals(mean, layer.keyMean()[c], 1e-5, "mean of channel " + c);
            double deviation = Math.sqrt(squares / 96 - mean * mean);
            assertEquals(deviation, layer.keyDeviation()[c], 1e-5, "deviation of channel " + c);
        }
    }

    /** The publication's own order, from its keys. */
    @Test
    void test_order_is_that_of_rotatekvs_simulation() throws IOException {
        Path golden = TestPaths.golden("rotatekv_inputs.safetensors");
        float[] keys;
        int[] expected;
        float[] rotated;
        try (SafetensorsFile file = SafetensorsFile.open(golden)) {
            HostTensor tensor = file.find("K_pre_rope").orElseThrow();
            float[] values = tensor.toFloats(); // [1, heads, tokens, channels]
            keys = new float[values.length];
            for (int i = 0; i < values.length; i++) {
                int head = i / (64 * 128);
                int token = i / 128 % 64;
                keys[token * 1024 + head * 128 + i % 128] = values[i];
            }
            expected = file.find("reorder_idx").orElseThrow().toInts();
            rotated = file.find("K_rotated").orElseThrow().toFloats();
        }
        var statistics = new KeyStatistics(8, 128);
        statistics.add(keys);
        float[] mean;
        try (Device device = Device.open("cpu")) {
            mean = statistics.rotatedMean(device);
        }
        int[] order = KeyStatistics.order(mean);
        for (int c = 0; c < 1024; c++) {
            double sum = 0;
            for (int t = 0; t < 64; t++) {
                sum += rotated[t * 1024 + c];
            }
            assertEquals(sum / 64, mean[c], 1e-5, "rotated mean of channel " + c);
            // Channels whose sums are equal to within rounding may change places.
            assertEquals(mean[expected[c]], mean[order[c]], 1e-5, "place " + c);
        }
    }

    @Test
    void test_order_and_trimmed_mean() {
        assertArrayEquals(new int[] {2, 0, 3, 1}, KeyStatistics.order(new float[] {-1, 5, -2, -1}));
        float[] mean = {0.1f, 3, -0.2f, 0.3f, 0.9f, 0, 0, -1.1f};
        float[] deviation = {1, 1, 1, 1, 2, 2, 2, 2};
        // Two heads of four channels; channels i and i + 2 are a pair.
        assertArrayEquals(
                new float[] {0, 3, 0, 0.3f, 0, 0, 0, -1.1f},
                KeyStatistics.trim(mean, deviation, 4, 0.5));
    }

    @Test
    void test_sinks_are_positions_with_massive_activations() {
        float[][] shares = {new float[64], new float[64]};
        ModelCalibration none = withShares(shares);
        assertEquals(0, none.sinkTokens());
        shares[1][0] = 1;
        shares[0][2] = 0.5f;
        shares[0][9] = 0.4f;
        assertEquals(3, withShares(shares).sinkTokens());
    }

    private static ModelCalibration withShares(float[][] shares) {
        return new ModelCalibration(2, 64, List.of(), shares, SOURCE);
    }

    @Test
    void test_file_keeps_everything() throws IOException {
        ModelCalibration calibration = calibrate(TinyLlama.tokens(7, 64), 32);
        Path path = folder.resolve("kv.safetensors");
        calibration.save(path);
        ModelCalibration loaded = ModelCalibration.load(path);
        assertEquals(2, loaded.layers().size());
        for (int i = 0; i < 2; i++) {
            ModelCalibration.Layer expected = calibration.layers().get(i);
            ModelCalibration.Layer actual = loaded.layers().get(i);
            assertArrayEquals(expected.keyMean(), actual.keyMean());
            assertArrayEquals(expected.keyDeviation(), actual.keyDeviation());
            assertArrayEquals(expected.rotatedMean(), actual.rotatedMean());
            assertArrayEquals(expected.keyOrder(), actual.keyOrder());
            assertArrayEquals(calibration.sinkShare()[i], loaded.sinkShare()[i]);
            assertArrayEquals(expected.keyOrder(), loaded.forCache(i, KvMode.ROTATEKV).keyOrder());
        }
        assertEquals(calibration.sha256(), loaded.sha256());
        assertEquals("book.txt", loaded.source().text());
        assertEquals(96, loaded.source().tokens());
    }

    @Test
    void test_wrong_files_texts_and_models_are_refused() throws IOException {
        Path path = folder.resolve("kv.safetensors");
        calibrate(TinyLlama.tokens(7, 64), 32).save(path);
        CalibrationSource source = ModelCalibration.load(path).source();
        assertRefused(() -> source.requireOtherText("x.txt", "ab12"), "kv.safetensors", "x.txt");
        assertRefused(() -> source.requireModel("model", "ee"), "cd34", "model has ee");
        source.requireOtherText("x.txt", "ab13");
        source.requireModel("model", "cd34");
        assertRefused(
                () -> ModelCalibration.load(path).requireLayer(2, 2, 64),
                "has 2 layers",
                "layer 2");
        assertRefused(
                () -> ModelCalibration.load(path).requireLayer(0, 4, 64),
                "2 heads of 64",
                "4 heads");
        TinyLlama.weights(1).save(folder);
        Path weights = folder.resolve("model.safetensors");
        assertRefused(() -> ModelCalibration.load(weights), "tarpon-kv-calibration", "'pt'");
        byte[] bytes = Files.readAllBytes(path);
        Files.write(path, Arrays.copyOf(bytes, bytes.length - 3));
        assertRefused(() -> ModelCalibration.load(path), "kv.safetensors");
        String message =
                assertThrows(
                                IllegalArgumentException.class,
                                () -> calibrate(TinyLlama.tokens(7, 20), 32))
                        .getMessage();
        assertTrue(message.contains("20 tokens"), message);
    }

    private interface Call {
        void run() throws IOException;
    }

    private static void assertRefused(Call call, String... parts) {
        String message = assertThrows(FormatException.class, call::run).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }
}
