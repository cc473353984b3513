package dev.tarpon.quant.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tarpon.GgufType;
import dev.tarpon.format.ElementType;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Optional;
import java.util.Random;

/** GGUF headers: what they say, and damaged or foreign files. */
class GgufFileTest {
    private static final int MUTATIONS = 2000;

    @TempDir Path folder;

    private static byte[] random(int length) {
        byte[] bytes = new byte[length];
        new Random(length).nextBytes(bytes);
        return bytes;
    }

    private static GgufBytes small() {
        return new GgufBytes()
                .text("general.architecture", "llama")
                .u32("llama.block_count", 2)
                .strings("tokenizer.ggml.tokens", "<s>", "a", "b")
                .tensor("blk.0.attn_q.weight", 2, random(3 * 2 * 18), 64, 3)
                .tensor("norm", 0, random(5 * 4), 5)
                .tensor("output.weight", 14, random(210), 256, 1);
    }

    private Path write(byte[] bytes) throws IOException {
        return Files.write(folder.resolve("model.gguf"), bytes);
    }

    @Test
    void test_gguf_header_and_tensors() throws IOException {
        for (int alignment : new int[] {0, 8, 64}) {
            GgufBytes bytes = alignment == 0 ? small() : small().alignment(alignment);
            for (int version : new int[] {2, 3}) {
                try (GgufFile file = GgufFile.open(write(bytes.version(version).build()))) {
                    assertEquals("llama", file.metadata().get("general.architecture"));
                    assertEquals("2", file.metadata().get("llama.block_count"));
                    assertEquals("string[3]", file.metadata().get("tokenizer.ggml.tokens"));
                    GgufTensor q = file.find("blk.0.attn_q.weight").orElseThrow();
                    assertArrayEquals(new long[] {3, 64}, q.shape());
                    assertEquals(Optional.of(GgufType.Q4_0), q.type().blocks());
                    assertArrayEquals(
                            random(108), q.data().toArray(ValueLayout.JAVA_BYTE), "Q4_0 blocks");
                    assertEquals("Q4_0 [3, 64]", q.description());
                    assertEquals(Optional.of(ElementType.F32), element(file, "norm"));
                    assertArrayEquals(
                            new long[] {1, 210},
                            file.find("output.weight").orElseThrow().toHost().shape());
                }
            }
        }
    }

    private static Optional<ElementType> element(GgufFile file, String name) {
        return file.find(name).orElseThrow().type().element();
    }

    @Test
    void test_gguf_scalars_as_text() throws IOException {
        byte[] bytes =
                new GgufBytes()
                        .entry("u8", 0, new byte[] {-1})
                        .entry("i8", 1, new byte[] {-1})
                        .entry("u16", 2, new byte[] {-1, -1})
                        .entry("i16", 3, new byte[] {-2, -1})
                        .entry("u32", 4, new byte[] {-1, -1, -1, -1})
                        .entry("i32", 5, new byte[] {-3, -1, -1, -1})
                        .entry("f32", 6, new byte[] {0, 0, (byte) 0xc0, 0x3f})
                        .entry("bool", 7, new byte[] {1})
                        .entry("u64", 10, new byte[] {-1, -1, -1, -1, -1, -1, -1, -1})
                        .entry("i64", 11, new byte[] {-4, -1, -1, -1, -1, -1, -1, -1})
                        .entry("f64", 12, new byte[] {0, 0, 0, 0, 0, 0, (byte) 0xf8, 0x3f})
                        .build();
        try (GgufFile file = GgufFile.open(write(bytes))) {
            assertEquals(
                    "255 -1 65535 -2 4294967295 -3 1.5 true 18446744073709551615 -4 1.5",
                    String.join(" ", file.metadata().values()));
        }
    }

    private void assertRefused(byte[] bytes, String... parts) throws IOException {
        Path path = write(bytes);
        String message =
                assertThrows(GgufException.class, () -> GgufFile.open(path).close()).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }

    @Test
    void test_gguf_refuses_what_it_cannot_be() throws IOException {
        assertRefused("PK..............".getBytes(), "begins with 0x504b");
        assertRefused(small().version(1).build(), "version 1");
        assertRefused(small().version(0x03000000).build(), "big-endian");
        assertRefused(small().version(4).build(), "version 4");
        assertRefused(small().alignment(12).build(), "general.alignment", "12");
        assertRefused(small().u32("llama.block_count", 3).build(), "twice");
        assertRefused(small().tensor("norm", 0, random(4), 1).build(), "'norm' is there twice");
        assertRefused(new GgufBytes().tensor("t", 5, random(4), 1).build(), "type 5");
        assertRefused(new GgufBytes().tensor("t", 2, random(18), 31, 1).build(), "31", "32");
        assertRefused(new GgufBytes().tensor("t", 0, random(4)).build(), "0 dimensions");
        assertRefused(new GgufBytes().tensor("t", 0, random(4), 1, 1, 1, 1, 1).build(), "5");
        assertRefused(new GgufBytes().tensor("t", 0, random(4), -1).build(), "impossible");
        assertRefused(
                new GgufBytes().tensor("t", 0, random(4), 1L << 40, 1L << 40).build(),
                "impossible");
        assertRefused(new GgufBytes().tensor("t", 0, random(4), 2).build(), "takes 8 bytes", "4");
        assertRefused(new GgufBytes().entry("k", 13, new byte[8]).build(), "type 13");
        assertRefused(
                new GgufBytes().entry("k", 9, new byte[] {9, 0, 0, 0}).build(), "array of arrays");
        assertRefused(
                new GgufBytes().entry("k", 8, new byte[] {1, 0, 0, 0, 0, 0, 0, 0, -1}).build(),
                "UTF-8");
        assertThrows(GgufException.class, () -> GgufFile.open(folder).close());
    }

    @Test
    void test_gguf_truncations_are_refused() throws IOException {
        byte[] original = small().build();
        for (int length = 0; length < original.length; length++) {
            Path path = write(Arrays.copyOf(original, length));
            try (GgufFile file = GgufFile.open(path)) {
                fail("cut to %d of %d bytes: %s".formatted(length, original.length, file));
            } catch (GgufException expected) {
                assertTrue(expected.getMessage().contains("model.gguf"));
            }
        }
    }

    /** Damage is read as a consistent file or refused; nothing else happens, whatever it is. */
    @Test
    void test_gguf_mutations_are_read_or_refused() throws IOException {
        byte[] original = small().build();
        int header = original.length - 108 - 20 - 210 - 40;
        int refused = 0;
        for (int seed = 0; seed < MUTATIONS; seed++) {
            byte[] mutated = mutate(original, header, new Random(seed));
            try (GgufFile file = GgufFile.open(write(mutated))) {
                for (GgufTensor tensor : file.tensors()) {
                    assertTrue(tensor.data().byteSize() <= mutated.length, "seed " + seed);
                    tensor.data().toArray(ValueLayout.JAVA_BYTE);
                    tensor.toHost();
                }
            } catch (GgufException expected) {
                refused++;
            } catch (RuntimeException | Error unexpected) {
                fail("seed " + seed + ": " + HexFormat.of().formatHex(mutated), unexpected);
            }
        }
        assertTrue(refused > MUTATIONS / 4, refused + " of " + MUTATIONS + " refused");
    }

    /** One to three of: flip a bit, set a byte, cut, repeat a piece, set a length. */
    private static byte[] mutate(byte[] original, int header, Random random) {
        byte[] bytes = original.clone();
        for (int times = 1 + random.nextInt(3); times > 0; times--) {
            int at = random.nextInt(Math.min(header, bytes.length));
            switch (random.nextInt(5)) {
                case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> bytes[at] = (byte) random.nextInt(256);
                case 2 -> bytes = Arrays.copyOf(bytes, at + 1);
                case 3 -> {
                    int from = random.nextInt(bytes.length);
                    byte[] piece = Arrays.copyOfRange(bytes, from, bytes.length);
                    byte[] longer = Arrays.copyOf(bytes, at + piece.length);
                    System.arraycopy(piece, 0, longer, at, piece.length);
                    bytes = longer;
                }
                default -> {
                    if (at + 8 <= bytes.length) {
                        long length = random.nextLong() >> random.nextInt(64);
                        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(at, length);
                    }
                }
            }
        }
        return bytes;
    }
}
