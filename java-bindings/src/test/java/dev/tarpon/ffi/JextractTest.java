package dev.tarpon.ffi;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * Compares the hand-written binding with jextract's: {@code mvn -Pjextract -pl java-bindings test}.
 */
class JextractTest {
    @TempDir Path work;

    @Test
    void shippedBindingEqualsGenerated() throws Exception {
        assumeTrue(
                Boolean.getBoolean("tarpon.jextract"),
                "the comparison with jextract's output runs with -Pjextract, and needs jextract");
        String home = System.getProperty("jextract.home", "");
        Optional<Jextract> jextract = Jextract.find(home, System.getenv("PATH"));
        assertTrue(
                jextract.isPresent(),
                "-Pjextract needs jextract, which is neither on PATH nor in -Djextract.home="
                        + home
                        + "; get it from https://jdk.java.net/jextract/");
        BindingDescription generated =
                jextract.get()
                        .describe(Header.path(), NativeLibrary.get().path(), work)
                        .only(Header.read().names());
        assertEquals(
                List.of(),
                BindingTest.shippedBinding().differences("the binding", generated, "jextract"));
    }

    @Test
    void jextractIsRunAndItsOutputDescribed() throws Exception {
        // Stands for jextract: writes a header class with one function, as the real one would.
        Path bin = Files.createDirectories(work.resolve("home/bin"));
        Path script =
                Files.writeString(
                        bin.resolve("jextract"),
                        """
                        #!/bin/sh
                        while [ "$1" != --output ]; do shift; done
                        mkdir -p "$2/dev/tarpon/jextract"
                        cat >"$2/dev/tarpon/jextract/tarpon_h.java" <<'END'
                        package dev.tarpon.jextract;
                        import java.lang.foreign.*;
                        public class tarpon_h {
                            private static final int TARPON_OK = (int)0L;
                            private static class tarpon_version {
                                public static final FunctionDescriptor DESC =
                                    FunctionDescriptor.of(ValueLayout.ADDRESS);
                            }
                        }
                        END
                        """);
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwx------"));
        Jextract jextract = Jextract.find(work.resolve("home").toString(), "").orElseThrow();
        BindingDescription described =
                jextract.describe(Path.of("tarpon.h"), Path.of("libtarpon.so"), work);
        assertEquals(
                new TreeMap<>(
                        Map.of(
                                "constant TARPON_OK",
                                "0",
                                "function tarpon_version",
                                "pointer void")),
                described.entries());
    }

    @Test
    void missingJextractIsNotFound() {
        assertEquals(Optional.empty(), Jextract.find(work.toString(), "/usr/bin:/bin"));
        assertEquals(Optional.empty(), Jextract.find("", work.toString()));
    }
}
