package dev.tarpon.kv;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.TestDevices;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.util.Random;

/** Sinks that stand anywhere in a sequence. */
class KvSinksTest {
    private static final int DIM = 64;
    private static final int KV_HEADS = 2;
    private static final int Q_HEADS = 4;
    private static final int WIDTH = KV_HEADS * DIM;
    private static final int TOKENS = 130;
    private static final int SINKS = 3;

    private static KvCacheOptions.Builder builder() {
        return KvCacheOptions.builder(DIM, Q_HEADS, KV_HEADS).maxTokens(256).recent(SINKS, 0);
    }

    private static float[] random(long seed, int count) {
        Random random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static double[] doubles(float[] values) {
        double[] result = new double[values.length];
        for (int i = 0; i < values.length; i++) {
            result[i] = values[i];
        }
        return result;
    }

    /** Keys, values and outputs as the cache has them. */
    private record Read(float[] k, float[] v, float[] o) {}

    /** Stores a sequence, reads it back, and attends with its last token. */
    private static Read run(Device device, KvCacheOptions options, int[] positions) {
        try (Stream stream = device.createStream();
                KvCache cache = KvCache.create(device, options);
                KvPagePool pool = KvPagePool.create(cache, 1, 4, 1);
                KvBatch batch = KvBatch.create(cache, 1, TOKENS, 256);
                KvSinks lists = positions == null ? null : KvSinks.create(cache, 1);
                Tensor k = floats(device, random(1, TOKENS * WIDTH));
                Tensor v = floats(device, random(2, TOKENS * WIDTH));
                Tensor q = floats(device, random(3, Q_HEADS * DIM));
                Tensor o = floats(device, new float[Q_HEADS * DIM])) {
            KvSequence sequence = pool.open().orElseThrow();
            sequence.reserve(TOKENS);
            batch.add(sequence, TOKENS);
            batch.upload(stream);
            if (lists != null) {
                lists.add(positions);
                lists.upload(stream);
            }
            cache.append(batch, lists, pool.pages(0), pool.recent(0), k, v, stream);
            cache.attend(batch, 1, lists, pool.pages(0), pool.recent(0), q, o, stream);
            cache.dequantize(batch, lists, pool.pages(0), pool.recent(0), k, v, stream);
            return new Read(k.toFloatArray(), v.toFloatArray(), o.toFloatArray());
        }
    }

    private static Tensor floats(Device device, float[] values) {
        return device.allocate(DType.F32, values.length).copyFrom(values);
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, TARPON",
        "cpu, ROTATEKV",
        "sim, TARPON",
        "sim, ROTATEKV",
        "cuda, TARPON",
        "cuda, ROTATEKV"
    })
    void theListOfTheFirstTokensGivesTheSameBits(String spec, KvMode mode) {
        try (Device device = TestDevices.open(spec)) {
            KvCacheOptions options = builder().mode(mode).build();
            Read first = run(device, options, null);
            Read listed = run(device, options, new int[] {0, 1, 2});
            assertArrayEquals(first.k(), listed.k());
            assertArrayEquals(first.v(), listed.v());
            assertArrayEquals(first.o(), listed.o());
        }
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, TARPON",
        "cpu, ROTATEKV",
        "sim, TARPON",
        "sim, ROTATEKV",
        "cuda, TARPON",
        "cuda, ROTATEKV"
    })
    void listedTokensAreKeptAndOthersAreNot(String spec, KvMode mode) {
        try (Device device = TestDevices.open(spec)) {
            KvCacheOptions options = builder().mode(mode).build();
            int[] positions = {5, 64};
            Read read = run(device, options, positions);
            float[] v = random(2, TOKENS * WIDTH);
            for (int t = 0; t < TOKENS; t++) {
                double worst = 0;
                for (int i = t * WIDTH; i < (t + 1) * WIDTH; i++) {
                    worst = Math.max(worst, Math.abs(read.v()[i] - v[i]));
                }
                // Values of 5 at most have steps of 1/256 in binary16; 2 bits leave far more.
                boolean kept = t == 5 || t == 64;
                assertEquals(kept, worst < 0.02, "token %d: %g".formatted(t, worst));
            }
            float[] q = random(3, Q_HEADS * DIM);
            for (int head = 0; head < Q_HEADS; head++) {
                double[] expected =
                        KvReference.attend(
                                options,
                                q,
                                0,
                                head,
                                TOKENS - 1,
                                doubles(read.k()),
                                doubles(read.v()));
                for (int i = 0; i < DIM; i++) {
                    assertEquals(
                            expected[i],
                            read.o()[head * DIM + i],
                            1e-3,
                            "o[%d, %d]".formatted(head, i));
                }
            }
        }
    }

    @Test
    void listsAreChecked() {
        try (Device device = Device.open("cpu");
                Stream stream = device.createStream();
                KvCache cache = KvCache.create(device, builder().build());
                KvCache none = KvCache.create(device, builder().recent(0, 0).build());
                KvPagePool pool = KvPagePool.create(cache, 1, 4, 1);
                KvBatch batch = KvBatch.create(cache, 1, 1, 256);
                KvSinks sinks = KvSinks.create(cache, 1);
                Tensor k = floats(device, random(1, WIDTH))) {
            refused("sinkTokens 0", () -> KvSinks.create(none, 1));
            refused("maxSequences is 0", () -> KvSinks.create(cache, 0));
            refused("4 sinks of sequence 0", () -> sinks.add(1, 2, 3, 4));
            refused("sink 1 of sequence 0 is at position 7, behind 7", () -> sinks.add(7, 7));
            refused("position -1", () -> sinks.add(-1));
            refused("position 256", () -> sinks.add(256));
            KvSequence sequence = pool.open().orElseThrow();
            sequence.reserve(1);
            batch.add(sequence, 1);
            batch.upload(stream);
            Tensor pages = pool.pages(0);
            Tensor recent = pool.recent(0);
            refused(
                    "0 sequences have lists",
                    () -> cache.append(batch, sinks, pages, recent, k, k, stream));
            sinks.add();
            var changed =
                    assertThrows(
                            IllegalStateException.class,
                            () -> cache.append(batch, sinks, pages, recent, k, k, stream));
            assertTrue(changed.getMessage().contains("upload them"), changed.getMessage());
            refused("there is room for 3 of 1 sequences", () -> sinks.add(0));
            assertEquals(1, sinks.sequences());
            sinks.upload(stream);
            refused(
                    "the sinks are 3 of 256 tokens",
                    () -> none.append(batch, sinks, pages, null, k, k, stream));
            cache.append(batch, sinks, pages, recent, k, k, stream);
        }
    }

    private static void refused(String message, Runnable call) {
        var failure = assertThrows(IllegalArgumentException.class, call::run);
        assertTrue(failure.getMessage().contains(message), failure.getMessage());
    }
}
