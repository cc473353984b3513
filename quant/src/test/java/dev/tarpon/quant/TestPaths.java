package dev.tarpon.quant;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;

/** Where the tests find files that the build or its surroundings provide. */
public final class TestPaths {
    private TestPaths() {}

    /** The repository's root. */
    public static Path root() {
        return Path.of(required("tarpon.root"));
    }

    /** A file of the demo's model, which the build has fetched. */
    public static Path model(String file) {
        return Path.of(required("dev.tarpon.models.path"), file);
    }

    /** A golden file beside the repository; the test is skipped, by name, where it is not. */
    public static Path golden(String file) {
        Path path = root().resolveSibling("shared").resolve("golden").resolve(file);
        assumeTrue(Files.exists(path), () -> "golden file " + file + " is not beside the project");
        return path;
    }

    private static String required(String property) {
        String value = System.getProperty(property);
        if (value == null) {
            throw new IllegalStateException("system property " + property + " is not set");
        }
        return value;
    }
}
