package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Loading in fresh processes: from a jar's resource through the cache, and not at all. */
class LoadingTest {
    @TempDir Path work;

    @Test
    void everyCallExplainsTheOriginalCause() throws Exception {
        Path missing = work.resolve("libmissing.so");
        JavaProcess.Result result =
                JavaProcess.run(
                        "dev.tarpon.LoaderProbe",
                        List.of(),
                        Map.of("dev.tarpon.library.path", missing.toString()),
                        Map.of());
        String reason =
                "the system property dev.tarpon.library.path names "
                        + missing
                        + ", which is not a file";
        String failure =
                ": UNSUPPORTED, Tarpon's native library is not available: "
                        + reason
                        + ", caused by LibraryUnavailableException";
        assertEquals(
                List.of(
                        "available: false",
                        "reason: " + reason,
                        "first" + failure,
                        "second" + failure,
                        "third" + failure),
                result.output().lines().toList());
        assertEquals(0, result.status());
    }

    @Test
    void libraryOfAJarIsExtractedOnce() throws Exception {
        Path resource =
                Files.createDirectories(work.resolve("jar/META-INF/native/linux-x86_64"))
                        .resolve("libtarpon.so");
        Files.copy(Path.of(Tarpon.libraryPath()), resource);
        Path cache = work.resolve("cache");
        Map<String, String> environment = Map.of("XDG_CACHE_HOME", cache.toString());
        Path library = null;
        for (int start = 0; start < 2; start++) {
            JavaProcess.Result result =
                    JavaProcess.run(
                            "dev.tarpon.LoaderProbe",
                            List.of(work.resolve("jar")),
                            Map.of(),
                            environment);
            assertTrue(result.output().contains("available: true"), result::output);
            assertTrue(result.output().contains("third: fine"), result::output);
            List<Path> files = regularFiles(cache);
            assertEquals(1, files.size(), files::toString);
            library = files.getFirst();
            assertTrue(result.output().contains("library: " + library), result::output);
        }
        assertEquals(-1, Files.mismatch(resource, library));
    }

    @Test
    void missingJarIsNamed() throws Exception {
        JavaProcess.Result result =
                JavaProcess.run("dev.tarpon.LoaderProbe", List.of(), Map.of(), Map.of());
        assertTrue(
                result.output().contains("add the artifact dev.tarpon:tarpon-native"),
                result::output);
    }

    private static List<Path> regularFiles(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            return files.filter(Files::isRegularFile).toList();
        }
    }
}
