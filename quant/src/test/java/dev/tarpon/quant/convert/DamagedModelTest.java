package dev.tarpon.quant.convert;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tarpon.GgufType;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.quant.format.GgufBytes;
import dev.tarpon.quant.format.Mutations;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Optional;
import java.util.Random;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Damaged models of every kind through the converter, the native library included: each is
 * converted to a file that can be read, or refused with a FormatException, and leaves nothing
 * behind. Anything else fails with the seed and the file.
 */
class DamagedModelTest {
    private static final int MUTATIONS = 1500;
    private static final int K = 64;
    private static final int N = 64;
    private static final int GROUP = 32;

    @TempDir Path folder;

    private void convert(Path in, Path out) throws IOException {
        Pattern exclude = Pattern.compile(ModelSource.DEFAULT_EXCLUDE);
        try (ModelSource source = ModelSource.open(in, Optional.empty(), exclude)) {
            new ModelQuantizer(source, GROUP).write(in.toString(), out, name -> {});
        }
    }

    /**
     * @param model what is converted: {@code damaged} or the folder it is in
     * @param damaged the file that is damaged
     */
    private void damage(Path model, Path damaged) throws IOException {
        byte[] original = Files.readAllBytes(damaged);
        Path results = Files.createDirectories(folder.resolve("results"));
        Path out = results.resolve("out.safetensors");
        convert(model, out); // the original can be read
        Files.delete(out);
        int refused = 0;
        for (int seed = 0; seed < MUTATIONS; seed++) {
            byte[] mutated = Mutations.mutate(original, new Random(seed));
            Files.write(damaged, mutated);
            Supplier<String> what = what(seed, mutated);
            try {
                convert(model, out);
                SafetensorsFile.open(out).close();
                Files.delete(out);
            } catch (FormatException expected) {
                refused++;
            } catch (IOException | RuntimeException | Error unexpected) {
                fail(what.get(), unexpected);
            }
            try (Stream<Path> left = Files.list(results)) {
                assertEquals(0, left.count(), what);
            }
        }
        // Most damage must be noticed: only data and names may change without a trace.
        assertTrue(refused > MUTATIONS / 4, refused + " of " + MUTATIONS + " refused");
    }

    private static Supplier<String> what(int seed, byte[] bytes) {
        return () ->
                "seed %d: %s"
                        .formatted(
                                seed,
                                new String(bytes, StandardCharsets.US_ASCII).contains("{")
                                        ? new String(bytes, StandardCharsets.ISO_8859_1)
                                        : HexFormat.of().formatHex(bytes));
    }

    private static byte[] blocks(GgufType type, Random random) {
        byte[] bytes = new byte[Math.toIntExact(type.bytes(4, 256))];
        random.nextBytes(bytes);
        for (int at = 0; at < bytes.length; at += type.blockBytes()) {
            bytes[at + 1] = 0x14; // a binary16 near 0.001
            if (type.format().zeroType() == ZeroType.FLOAT) {
                bytes[at + 3] = 0x18;
            }
        }
        return bytes;
    }

    private static GgufBytes gguf() {
        Random random = new Random(7);
        return new GgufBytes()
                .text("general.architecture", "llama")
                .strings("tokenizer.tokens", "a", "b")
                .u32("llama.block_count", 1)
                .tensor("blk.0.a.weight", 2, blocks(GgufType.Q4_0, random), 256, 4)
                .tensor("blk.0.b.weight", 3, blocks(GgufType.Q4_1, random), 256, 4)
                .tensor("blk.0.c.weight", 8, blocks(GgufType.Q8_0, random), 256, 4)
                .tensor("blk.0.d.weight", 12, blocks(GgufType.Q4_K, random), 256, 4)
                .tensor("blk.0.e.weight", 0, new byte[4 * 32 * 4], 32, 4);
    }

    @Test
    void test_damaged_gguf() throws IOException {
        Path model = Files.write(folder.resolve("model.gguf"), gguf().build());
        damage(model, model);
    }

    private Path checkpoint(String config) throws IOException {
        Path model = Files.createDirectories(folder.resolve("model"));
        boolean awq = config.contains("w_bit");
        Random random = new Random(7);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment scales = arena.allocate(2L * (K / GROUP) * N, 64).fill((byte) 0x14);
            var writer =
                    new SafetensorsWriter()
                            .add(
                                    words(
                                            arena,
                                            "a.qweight",
                                            random,
                                            awq ? K : K / 8,
                                            awq ? N / 8 : N))
                            .add(words(arena, "a.qzeros", random, K / GROUP, N / 8))
                            .add(
                                    new HostTensor(
                                            "a.scales",
                                            ElementType.F16,
                                            new long[] {K / GROUP, N},
                                            scales));
            if (!awq) {
                MemorySegment gIdx = arena.allocate(4L * K, 64);
                for (int i = 0; i < K; i++) {
                    gIdx.setAtIndex(java.lang.foreign.ValueLayout.JAVA_INT, i, (i + 5) % K / GROUP);
                }
                writer.add(new HostTensor("a.g_idx", ElementType.I32, new long[] {K}, gIdx));
            }
            writer.write(model.resolve("model.safetensors"));
        }
        Files.writeString(model.resolve("quantize_config.json"), config);
        return model;
    }

    private static HostTensor words(
            Arena arena, String name, Random random, long rows, long columns) {
        byte[] bytes = new byte[Math.toIntExact(4 * rows * columns)];
        random.nextBytes(bytes);
        MemorySegment data =
                arena.allocate(bytes.length, 64).copyFrom(MemorySegment.ofArray(bytes));
        return new HostTensor(name, ElementType.I32, new long[] {rows, columns}, data);
    }

    private static final String GPTQ =
            "{\"bits\": 4, \"group_size\": 32, \"desc_act\": true, \"checkpoint_format\":"
                    + " \"gptq_v2\"}";
    private static final String AWQ = "{\"w_bit\": 4, \"q_group_size\": 32, \"version\": \"GEMM\"}";

    @Test
    void test_damaged_gptq_tensors() throws IOException {
        Path model = checkpoint(GPTQ);
        damage(model, model.resolve("model.safetensors"));
    }

    @Test
    void test_damaged_awq_tensors() throws IOException {
        Path model = checkpoint(AWQ);
        damage(model, model.resolve("model.safetensors"));
    }

    @Test
    void test_damaged_configurations() throws IOException {
        for (String config : new String[] {GPTQ, AWQ}) {
            Path model = checkpoint(config);
            damage(model, model.resolve("quantize_config.json"));
        }
    }

    @Test
    void test_gguf_tensors_that_share_bytes() throws IOException {
        byte[] bytes =
                new GgufBytes()
                        .tensor("a.weight", 0, new byte[4 * 32], 32, 1)
                        .tensor("b.weight", 0, new byte[4 * 32], 32, 1)
                        .build();
        // Offsets of the two are 0 and 128; the second's is the last number of the header.
        int offset = new String(bytes, StandardCharsets.ISO_8859_1).indexOf("b.weight") + 8 + 24;
        assertEquals((byte) 128, bytes[offset]);
        bytes[offset] = 96;
        Path model = Files.write(folder.resolve("model.gguf"), bytes);
        FormatException refused =
                assertThrows(
                        FormatException.class,
                        () -> convert(model, folder.resolve("out.safetensors")));
        assertTrue(
                refused.getMessage().contains("offset 96, within tensor 'a.weight' at 0 of 128"),
                refused::getMessage);
    }

    /** Sizes of which only the product or the sum overflows. */
    @Test
    void test_gguf_sizes_that_overflow() throws IOException {
        long huge = 1L << 62;
        for (byte[] bytes :
                new byte[][] {
                    new GgufBytes().tensor("a.weight", 0, new byte[0], huge, 1).build(),
                    new GgufBytes().tensor("a.weight", 28, new byte[0], 1L << 61, 4).build(),
                    new GgufBytes().tensor("a.weight", 2, new byte[0], huge, huge).build(),
                    new GgufBytes().tensor("a.weight", 2, new byte[0], -32, 4).build()
                }) {
            Path model = Files.write(folder.resolve("model.gguf"), bytes);
            FormatException refused =
                    assertThrows(
                            FormatException.class,
                            () -> convert(model, folder.resolve("out.safetensors")));
            assertTrue(refused.getMessage().contains("impossible size"), refused::getMessage);
        }
    }
}
