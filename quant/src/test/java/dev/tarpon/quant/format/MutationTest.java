package dev.tarpon.quant.format;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsException;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;

/**
 * Damaged files: each must either read as a consistent file (some damage is harmless, such as a
 * changed letter in a name) or be refused with a FormatException. Anything else, a runaway
 * allocation included, fails and prints the seed and the file.
 */
class MutationTest {
    private static final int MUTATIONS = 2000;
    @TempDir Path folder;

    @Test
    void test_safetensors_mutations_are_read_or_refused() throws IOException {
        byte[] original = safetensors();
        int refused = 0;
        for (int seed = 0; seed < MUTATIONS; seed++) {
            byte[] mutated = Mutations.mutate(original, new Random(seed));
            Path path = Files.write(folder.resolve("mutated.safetensors"), mutated);
            try (SafetensorsFile file = SafetensorsFile.open(path)) {
                long bytes = file.tensors().stream().mapToLong(MutationTest::readAll).sum();
                assertTrue(bytes <= mutated.length, "seed " + seed);
            } catch (SafetensorsException expected) {
                refused++;
            } catch (RuntimeException | Error unexpected) {
                fail("seed " + seed + ": " + HexFormat.of().formatHex(mutated), unexpected);
            }
        }
        // Most damage must be noticed: only data and names may change without a trace.
        assertTrue(refused > MUTATIONS / 2, refused + " of " + MUTATIONS + " refused");
    }

    @Test
    void test_safetensors_truncations_are_refused() throws IOException {
        byte[] original = safetensors();
        for (int length = 0; length < original.length; length++) {
            Path path =
                    Files.write(
                            folder.resolve("truncated.safetensors"),
                            Arrays.copyOf(original, length));
            try (SafetensorsFile file = SafetensorsFile.open(path)) {
                fail("cut to %d of %d bytes: %s".formatted(length, original.length, file));
            } catch (SafetensorsException expected) {
                assertTrue(expected.getMessage().contains("truncated.safetensors"));
            }
        }
    }

    @Test
    void test_onnx_mutations_are_read_or_refused() throws IOException {
        byte[] original = OnnxBytes.twoLayerModel();
        int refused = 0;
        for (int seed = 0; seed < MUTATIONS; seed++) {
            byte[] mutated = Mutations.mutate(original, new Random(seed));
            Path path = Files.write(folder.resolve("mutated.onnx"), mutated);
            try (OnnxFile file = OnnxFile.open(path)) {
                file.initializers().forEach(MutationTest::readAll);
                OnnxLinears.find(file);
            } catch (OnnxException expected) {
                refused++;
            } catch (RuntimeException | Error unexpected) {
                fail("seed " + seed + ": " + HexFormat.of().formatHex(mutated), unexpected);
            }
        }
        assertTrue(refused > MUTATIONS / 4, refused + " of " + MUTATIONS + " refused");
    }

    private static long readAll(HostTensor tensor) {
        assertEquals(
                tensor.elements() * tensor.type().bytes(), tensor.data().byteSize(), tensor.name());
        tensor.data().toArray(ValueLayout.JAVA_BYTE);
        return tensor.data().byteSize();
    }

    private byte[] safetensors() throws IOException {
        Path path = folder.resolve("original.safetensors");
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment codes = arena.allocate(12);
            new SafetensorsWriter()
                    .add(HostTensor.ofFloats(arena, "layer.0.weight", new float[6], 2, 3))
                    .add(new HostTensor("codes", ElementType.U8, new long[] {3, 4}, codes))
                    .add(HostTensor.ofFloats(arena, "bias", new float[] {1, 2, 3}, 3))
                    .metadata("format", "pt")
                    .write(path);
        }
        return Files.readAllBytes(path);
    }
}
