package dev.tarpon.ffi;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;

/** The cache of extracted libraries: content decides, damage is repaired, strangers are refused. */
class LibraryCacheTest {
    private static final byte[] CONTENT = "a library".getBytes(StandardCharsets.US_ASCII);
    private static final String SHA256_OF_ABC =
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    @TempDir Path root;

    private Path extract(byte[] content) throws IOException {
        return new LibraryCache(root.resolve("tarpon")).extract(content, "libtarpon.so");
    }

    @Test
    void fileLiesUnderTheHashOfItsContent() throws Exception {
        Path file = extract("abc".getBytes(StandardCharsets.US_ASCII));
        assertEquals(root.resolve("tarpon/" + SHA256_OF_ABC + "/libtarpon.so"), file);
        assertNotEquals(file, extract(CONTENT));
        assertEquals(
                "rwx------",
                PosixFilePermissions.toString(Files.getPosixFilePermissions(file.getParent())));
    }

    @Test
    void fileIsWrittenOnce() throws Exception {
        Object key = Files.readAttributes(extract(CONTENT), "unix:ino").get("ino");
        assertEquals(key, Files.readAttributes(extract(CONTENT), "unix:ino").get("ino"));
    }

    @Test
    void damagedFilesAreRepaired() throws Exception {
        Path file = extract(CONTENT);
        for (byte[] damage : new byte[][] {{}, "a librarY".getBytes(StandardCharsets.US_ASCII)}) {
            Files.write(file, damage);
            assertArrayEquals(CONTENT, Files.readAllBytes(extract(CONTENT)));
        }
        Files.delete(file);
        Files.createSymbolicLink(file, Files.write(root.resolve("elsewhere"), CONTENT));
        assertTrue(Files.isRegularFile(extract(CONTENT), java.nio.file.LinkOption.NOFOLLOW_LINKS));
        try (Stream<Path> files = Files.list(file.getParent())) {
            assertEquals(List.of(file), files.toList(), "nothing partial is left");
        }
    }

    @Test
    void whatOthersMayWriteIsRefused() throws Exception {
        Path file = extract(CONTENT);
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-rw----"));
        IOException exception = assertThrows(IOException.class, () -> extract(CONTENT));
        assertTrue(exception.getMessage().contains(file + " may be written by others (rw-rw----)"));
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-------"));
        Files.setPosixFilePermissions(
                file.getParent(), PosixFilePermissions.fromString("rwxrwxrwx"));
        exception = assertThrows(IOException.class, () -> extract(CONTENT));
        assertTrue(exception.getMessage().contains(file.getParent() + " may be written by others"));
    }

    @Test
    void unwritableCacheFailsWithItsPath() throws Exception {
        Path file = Files.createFile(root.resolve("tarpon"));
        IOException exception = assertThrows(IOException.class, () -> extract(CONTENT));
        assertTrue(exception.getMessage().contains(file.toString()), exception::getMessage);
    }

    @Test
    void processesThatStartAtOnceAgree() throws Exception {
        List<Callable<Path>> starts = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            starts.add(() -> extract(CONTENT));
        }
        try (ExecutorService threads = Executors.newFixedThreadPool(8)) {
            for (Future<Path> start : threads.invokeAll(starts)) {
                assertArrayEquals(CONTENT, Files.readAllBytes(start.get()));
            }
        }
    }
}
