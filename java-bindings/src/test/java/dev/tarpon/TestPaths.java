package dev.tarpon;

import java.nio.file.Path;

/** Folders that Surefire tells the tests about; see pom.xml. */
public final class TestPaths {
    private TestPaths() {}

    /** The root of the repository. */
    public static Path root() {
        return folder("tarpon.root");
    }

    /** Where CMake has built libtarpon.so and its test programs. */
    public static Path nativeBuild() {
        return folder("tarpon.native.build");
    }

    private static Path folder(String property) {
        String value = System.getProperty(property);
        if (value == null) {
            throw new IllegalStateException(
                    "the system property " + property + " is not set; run the tests with Maven");
        }
        return Path.of(value);
    }
}
