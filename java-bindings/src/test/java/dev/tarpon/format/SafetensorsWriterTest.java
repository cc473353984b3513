package dev.tarpon.format;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** A file appears complete or not at all. */
class SafetensorsWriterTest {
    @TempDir Path folder;

    @Test
    void test_writer_failure_keeps_the_old_file_and_leaves_nothing() throws IOException {
        Path path = Files.writeString(folder.resolve("out.safetensors"), "the old content");
        try (Arena arena = Arena.ofConfined()) {
            var writer =
                    new SafetensorsWriter()
                            .add(HostTensor.ofFloats(arena, "first", new float[1000], 1000))
                            .add(
                                    "second",
                                    ElementType.F32,
                                    new long[] {1},
                                    () -> {
                                        throw new IOException("the source broke");
                                    });
            var failure = assertThrows(IOException.class, () -> writer.write(path));
            assertEquals("the source broke", failure.getMessage());
        }
        assertEquals("the old content", Files.readString(path));
        assertEquals(List.of(path), list());
    }

    @Test
    void test_writer_refuses_a_source_of_another_size() throws IOException {
        Path path = folder.resolve("out.safetensors");
        try (Arena arena = Arena.ofConfined()) {
            var writer =
                    new SafetensorsWriter()
                            .add("a", ElementType.F32, new long[] {4}, () -> arena.allocate(12));
            var failure = assertThrows(IOException.class, () -> writer.write(path));
            assertTrue(failure.getMessage().contains("16 bytes"), failure.getMessage());
            assertTrue(failure.getMessage().contains("gave 12"), failure.getMessage());
        }
        assertEquals(List.of(), list());
    }

    @Test
    void test_writer_refuses_names_twice_and_reserved() {
        var writer = new SafetensorsWriter();
        writer.add("a", ElementType.U8, new long[] {0}, () -> null);
        assertThrows(
                IllegalArgumentException.class,
                () -> writer.add("a", ElementType.U8, new long[] {0}, () -> null));
        assertThrows(
                IllegalArgumentException.class,
                () -> writer.add("__metadata__", ElementType.U8, new long[] {0}, () -> null));
    }

    @Test
    void test_writer_names_a_missing_folder() {
        Path path = folder.resolve("absent").resolve("out.safetensors");
        var failure = assertThrows(IOException.class, () -> new SafetensorsWriter().write(path));
        assertTrue(failure.getMessage().contains("does not exist"), failure.getMessage());
    }

    private List<Path> list() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.toList();
        }
    }
}
