package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

import javax.tools.ToolProvider;

/** The programs in the READMEs, compiled and run as a stranger would. */
class ReadmeExampleTest {
    private static final Pattern JAVA_BLOCK =
            Pattern.compile("^```java\\n(.*?)^```$", Pattern.DOTALL | Pattern.MULTILINE);

    @TempDir Path work;

    /** Each is a compact source file that prints one number. */
    @ParameterizedTest
    @ValueSource(strings = {"README.md", "java-bindings/README.md"})
    void programCompilesAndRuns(String readme) throws Exception {
        String text = Files.readString(TestPaths.root().resolve(readme));
        String program =
                JAVA_BLOCK
                        .matcher(text)
                        .results()
                        .map(block -> block.group(1))
                        .filter(code -> code.contains("void main()"))
                        .findFirst()
                        .orElseThrow(() -> new AssertionError(readme + " has no program"));
        Path source = work.resolve("Example.java"); // its name is the class's
        Files.writeString(source, program);
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
