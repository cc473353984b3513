package dev.tarpon.quant.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.Device;
import dev.tarpon.format.FormatException;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.kv.KvDevices;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.kv.SinkPolicy;
import dev.tarpon.quant.model.FloatLinear;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/** Going on from a snapshot, and files that are none. */
class CacheSnapshotTest {
    private static final Map<String, String> IDENTITY = Map.of("model_sha256", "1234");
    private static final KvFormat FORMAT = new KvFormat(KvMode.TARPON, 2, 2, 4, 16);

    @TempDir Path folder;

    private Device device;
    private LlamaDecoder decoder;

    @BeforeEach
    void open() {
        device = Device.open("cpu");
        decoder = new LlamaDecoder(TinyLlama.weights(1), FloatLinear::new);
    }

    @AfterEach
    void close() {
        decoder.close();
        device.close();
    }

    private static CachedAttention attention(Device device, KvFormat format, int maxTokens) {
        return new CachedAttention(
                device, TinyLlama.CONFIG, format, layer -> KvCalibration.NONE, 1, maxTokens);
    }

    private int[] generate(CachedAttention attention, Sampler sampler, int[] given, int count) {
        return new Generator(decoder, attention, sampler).run(given, count, token -> {}).tokens();
    }

    @ParameterizedTest
    @CsvSource({
        "TARPON, 2, 4, 16, FIRST, 0, cpu",
        "TARPON, 4, 0, 0, FIRST, 1.5, cpu",
        "TARPON, 2, 25, 16, MASSIVE, 1.5, cpu",
        "ROTATEKV, 2, 4, 8, FIRST, 1.5, cpu",
        "ROTATEKV, 2, 40, 0, MASSIVE, 1.5, cpu",
        "TARPON, 2, 4, 16, FIRST, 1.5, sim",
        "TARPON, 2, 25, 0, MASSIVE, 0, sim",
        "TARPON, 2, 4, 16, FIRST, 1.5, cuda"
    })
    void test_a_run_goes_on_with_the_same_tokens(
            KvMode mode,
            int bits,
            int sinks,
            int window,
            SinkPolicy policy,
            double temperature,
            String target)
            throws IOException {
        KvFormat format = new KvFormat(mode, bits, bits, sinks, window, policy);
        var sampler = new Sampler(temperature, 5);
        int[] prompt = TinyLlama.tokens(3, 75);
        Path file = folder.resolve("cache.safetensors");
        int[] whole;
        try (var attention = attention(device, format, 160)) {
            whole = generate(attention, sampler, prompt, 60);
        }
        try (var attention = attention(device, format, 160)) {
            int[] half = generate(attention, sampler, prompt, 31);
            assertArrayEquals(Arrays.copyOf(whole, half.length), half);
            CacheSnapshot.save(file, attention, half, IDENTITY);
        }
        // Another room, other pages, and perhaps another device.
        try (Device other = KvDevices.open(target);
                var attention = attention(other, format, 200)) {
            int[] half = CacheSnapshot.load(file, attention, IDENTITY);
            assertEquals(105, attention.length());
            assertArrayEquals(whole, generate(attention, sampler, half, 29));
        }
    }

    private Path saved() throws IOException {
        Path file = folder.resolve("cache.safetensors");
        try (var attention = attention(device, FORMAT, 100)) {
            int[] tokens = generate(attention, Sampler.GREEDY, TinyLlama.tokens(3, 70), 3);
            CacheSnapshot.save(file, attention, tokens, IDENTITY);
        }
        return file;
    }

    private void assertRefused(
            Path file,
            KvFormat format,
            int maxTokens,
            Map<String, String> identity,
            String... parts)
            throws IOException {
        try (var attention = attention(device, format, maxTokens)) {
            String message =
                    assertThrows(
                                    FormatException.class,
                                    () -> CacheSnapshot.load(file, attention, identity))
                            .getMessage();
            for (String part : parts) {
                assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
            }
            assertEquals(0, attention.length(), "a failure leaves the cache empty");
            // And the cache is of use still.
            generate(attention, Sampler.GREEDY, new int[] {1, 2, 3}, 2);
        }
    }

    @Test
    void test_foreign_files_are_refused() throws IOException {
        Path file = saved();
        KvFormat wider = new KvFormat(KvMode.TARPON, 4, 2, 4, 16);
        assertRefused(file, wider, 100, IDENTITY, "its options", "keyBits=2", "keyBits=4");
        KvFormat other = new KvFormat(KvMode.ROTATEKV, 2, 2, 4, 16);
        assertRefused(file, other, 100, IDENTITY, "page_format_version");
        KvFormat massive = new KvFormat(KvMode.TARPON, 2, 2, 4, 16, SinkPolicy.MASSIVE);
        assertRefused(file, massive, 100, IDENTITY, "its sinks", "'first'", "'massive'");
        assertRefused(file, FORMAT, 100, Map.of("model_sha256", "99"), "model_sha256", "'99'");
        assertRefused(file, FORMAT, 64, IDENTITY, "length is '72'", "room for 64");
        Path weights = folder.resolve("model.safetensors");
        TinyLlama.weights(1).save(folder);
        assertRefused(weights, FORMAT, 100, IDENTITY, "is no snapshot", "tarpon-kv-snapshot");
        Path text = Files.writeString(folder.resolve("text"), "no tensors at all");
        assertRefused(text, FORMAT, 100, IDENTITY, "text");
    }

    @Test
    void test_truncated_and_damaged_files_are_refused() throws IOException {
        Path file = saved();
        byte[] bytes = Files.readAllBytes(file);
        for (int length : new int[] {0, 7, 100, bytes.length / 2, bytes.length - 1}) {
            Path cut = folder.resolve("cut");
            Files.write(cut, Arrays.copyOf(bytes, length));
            assertRefused(cut, FORMAT, 100, IDENTITY, "cut");
        }
        byte[] damaged = bytes.clone();
        damaged[bytes.length - 5000] ^= 4;
        Path flipped = Files.write(folder.resolve("flipped"), damaged);
        assertRefused(flipped, FORMAT, 100, IDENTITY, "is damaged", "SHA-256");
    }

    @Test
    void test_a_cache_in_use_is_not_overwritten() throws IOException {
        Path file = saved();
        try (var attention = attention(device, FORMAT, 100)) {
            generate(attention, Sampler.GREEDY, new int[] {1, 2, 3}, 2);
            String message =
                    assertThrows(
                                    IllegalArgumentException.class,
                                    () -> CacheSnapshot.load(file, attention, IDENTITY))
                            .getMessage();
            assertTrue(message.contains("4 tokens already"), message);
        }
    }
}
