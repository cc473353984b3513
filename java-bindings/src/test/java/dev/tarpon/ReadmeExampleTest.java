package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import javax.tools.ToolProvider;

/** The first Java example of the README, compiled and run as a stranger would. */
class ReadmeExampleTest {
    private static final Pattern JAVA_BLOCK =
            Pattern.compile("^```java\\n(.*?)^```$", Pattern.DOTALL | Pattern.MULTILINE);

    @TempDir Path work;

    @Test
    void exampleCompilesAndRuns() throws Exception {
        String readme = Files.readString(TestPaths.root().resolve("README.md"));
        Matcher block = JAVA_BLOCK.matcher(readme);
        assertTrue(block.find(), "README.md has no ```java block");
        Path source = work.resolve("Example.java"); // a compact source file: the name is the class
        Files.writeString(source, block.group(1));
        String classes = Tarpon.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        int status =
                ToolProvider.getSystemJavaCompiler()
                        .run(
                                null,
                                null,
                                null,
                                "-Xlint:all",
                                "-Werror",
                                "-cp",
                                classes,
                                "-d",
                                work.toString(),
                                source.toString());
        assertEquals(0, status, "the example does not compile; see above");
        JavaProcess.Result result =
                JavaProcess.run(
                        "Example",
                        List.of(work),
                        Map.of("dev.tarpon.library.path", Tarpon.libraryPath()),
                        Map.of());
        assertEquals(0, result.status(), result::output);
        // One number, and nothing else: no warnings of the Java runtime either.
        assertTrue(Float.isFinite(Float.parseFloat(result.output().strip())), result::output);
    }
}
