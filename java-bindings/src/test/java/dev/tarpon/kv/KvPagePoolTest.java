package dev.tarpon.kv;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Status;
import dev.tarpon.Stream;
import dev.tarpon.TarponException;
import dev.tarpon.Tensor;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

import java.util.HashSet;
import java.util.Set;

/** Pages and sequences of a pool, and what the API refuses. */
class KvPagePoolTest {
    private Device device;
    private Stream stream;
    private KvCache cache;
    private KvPagePool pool;

    @BeforeEach
    void open() {
        device = Device.open("cpu");
        stream = device.createStream();
        cache =
                KvCache.create(
                        device,
                        KvCacheOptions.builder(64, 4, 2).maxTokens(320).recent(4, 16).build());
        pool = KvPagePool.create(cache, 2, 6, 2);
    }

    @AfterEach
    void close() {
        device.close();
    }

    @Test
    void pagesGoToOneSequenceAtATime() {
        KvSequence first = pool.open().orElseThrow();
        KvSequence second = pool.open().orElseThrow();
        assertTrue(pool.open().isEmpty(), "two sequences is all there are");
        assertTrue(first.reserve(65));
        assertTrue(second.reserve(4 * 64));
        Set<Integer> pages = new HashSet<>();
        for (int i = 0; i < first.pageCount(); i++) {
            pages.add(first.page(i));
        }
        for (int i = 0; i < second.pageCount(); i++) {
            pages.add(second.page(i));
        }
        assertEquals(Set.of(0, 1, 2, 3, 4, 5), pages);
        assertFalse(first.reserve(129), "no page is left");
        assertEquals(2, first.pageCount(), "a failure takes nothing");
        second.close();
        second.close();
        assertEquals(4, pool.freePages());
        assertTrue(first.reserve(6 * 64));
        assertTrue(pool.open().isPresent());
        assertThrows(IllegalStateException.class, () -> second.reserve(1));
    }

    @Test
    void lengthsStayWithinPagesAndWindow() {
        KvSequence sequence = pool.open().orElseThrow();
        assertTrue(sequence.reserve(100));
        sequence.advance(100);
        assertMessage(() -> sequence.advance(29), "29 more", "behind 100", "2 pages of 64");
        assertMessage(() -> sequence.truncate(101), "101 tokens of 100");
        assertMessage(() -> sequence.truncate(91), "91 tokens of 100", "at least 92");
        sequence.truncate(96);
        assertMessage(() -> sequence.truncate(91), "100 at the longest", "at least 92");
        assertEquals(96, sequence.length());
    }

    @Test
    void aPoolOfAllLayersSaysWhatItTakes() {
        assertEquals(2 * (6 * cache.pageBytes() + 2 * cache.recentBytes()), pool.sizeBytes());
        assertEquals(0, pool.pages(1).address() % 64);
        assertMessage(() -> KvPagePool.create(cache, 0, 6, 2), "layers is 0");
    }

    @Test
    void badBatchesAreNamed() {
        int[] pages = {0, 1};
        try (KvBatch batch = KvBatch.create(cache, 2, 16, 128)) {
            assertMessage(() -> batch.add(pages, 2, 0, 10, 5, 6), "6 tokens from position 5 of");
            assertMessage(() -> batch.add(pages, 2, 0, 129, 0, 1), "take 3 pages of 64", "has 2");
            assertMessage(() -> batch.add(pages, 3, 0, 1, 0, 1), "has 3");
            assertMessage(() -> batch.add(pages, 2, 0, 17, 0, 17), "17 tokens", "16 of them");
            batch.add(pages, 2, 0, 8, 0, 8);
            batch.add(pages, 2, 0, 8, 0, 8);
            assertMessage(() -> batch.add(pages, 2, 0, 8, 8, 0), "2 sequences of 128 tokens");
        }
        assertMessage(() -> KvBatch.create(cache, 0, 1, 1), "maxSequences is 0");
    }

    @Test
    void badOperandsAreNamed() {
        try (KvBatch batch = KvBatch.create(cache, 1, 16, 128);
                Device other = Device.open("cpu");
                Tensor k = device.allocate(DType.F32, 8, 2, 64);
                Tensor halves = device.allocate(DType.F16, 8, 2, 64);
                Tensor few = device.allocate(DType.F32, 7, 2, 64);
                Tensor q = device.allocate(DType.F32, 8, 4, 64);
                Tensor o = device.allocate(DType.F32, 8, 4, 64);
                Tensor elsewhere = other.allocate(DType.F32, 8, 2, 64);
                Tensor odd = device.allocate(DType.U8, 100)) {
            Tensor pages = pool.pages(0);
            Tensor recent = pool.recent(0);
            batch.add(new int[] {2}, 1, 0, 8, 0, 8);
            IllegalStateException early =
                    assertThrows(
                            IllegalStateException.class,
                            () -> cache.append(batch, pages, recent, k, k, stream));
            assertTrue(early.getMessage().contains("upload it first"), early.getMessage());
            batch.upload(stream);
            assertMessage(
                    () -> cache.append(batch, odd, recent, k, k, stream), "U8[100]", "blocks");
            assertMessage(() -> cache.append(batch, pages, odd, k, k, stream), "recent", "U8[100]");
            assertMessage(
                    () -> cache.append(batch, pages, recent, halves, k, stream), "k is", "F16");
            assertMessage(() -> cache.append(batch, pages, recent, k, few, stream), "v is", "1024");
            assertMessage(
                    () -> cache.append(batch, pages, recent, elsewhere, k, stream),
                    "another device");
            assertThrows(
                    NullPointerException.class,
                    () -> cache.append(batch, pages, null, k, k, stream));
            assertMessage(
                    () -> cache.attend(batch, 9, pages, recent, q, o, stream), "queries is 9");
            assertMessage(() -> cache.attend(batch, 8, pages, recent, q, q, stream), "overlaps");
            assertMessage(
                    () -> cache.attend(batch, 8, pages, recent, k, o, stream), "q is", "2048");
            cache.append(batch, pages, recent, k, k, stream);
            batch.clear();
            batch.add(new int[] {6}, 1, 0, 8, 0, 8);
            batch.upload(stream);
            TarponException outside =
                    assertThrows(
                            TarponException.class,
                            () -> cache.append(batch, pages, recent, k, k, stream));
            assertEquals(Status.INVALID_ARGUMENT, outside.status());
            pages.close();
            assertThrows(
                    IllegalStateException.class,
                    () -> cache.append(batch, pages, recent, k, k, stream));
        }
    }

    @Test
    void badOptionsAndCalibrationsAreNamed() {
        KvCacheOptions options = cache.options();
        TarponException bits =
                assertThrows(
                        TarponException.class,
                        () -> KvCache.create(device, options.toBuilder().bits(5, 2).build()));
        assertEquals(Status.UNSUPPORTED, bits.status());
        assertTrue(bits.getMessage().contains("k_bits is 5"), bits.getMessage());
        assertMessage(
                () -> KvCache.create(device, options, KvCalibration.ofMean(new float[64])),
                "keyMean has 64",
                "takes 128");
        TarponException order =
                assertThrows(
                        TarponException.class,
                        () -> KvCache.create(device, options, KvCalibration.ofOrder(new int[128])));
        assertEquals(Status.INVALID_ARGUMENT, order.status());
        assertEquals(options, options.toBuilder().build());
    }

    private static void assertMessage(Runnable call, String... parts) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }
}
