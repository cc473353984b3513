package dev.tarpon.ffi;

import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;

/** An installed jextract. */
record Jextract(Path executable) {
    private static final String PACKAGE = "dev.tarpon.jextract";

    /** The jextract in {@code home}, if it is not blank, else the first on {@code path}. */
    static Optional<Jextract> find(String home, String path) {
        if (!home.isBlank()) {
            return Stream.of(Path.of(home, "bin", "jextract"), Path.of(home, "jextract"))
                    .filter(Files::isExecutable)
                    .findFirst()
                    .map(Jextract::new);
        }
        return Stream.of(path.split(File.pathSeparator))
                .map(folder -> Path.of(folder, "jextract"))
                .filter(Files::isExecutable)
                .findFirst()
                .map(Jextract::new);
    }

    /**
     * Generates, compiles and describes the binding of a header.
     *
     * @param library where the generated classes find the symbols
     * @param work an empty folder
     */
    BindingDescription describe(Path header, Path library, Path work)
            throws IOException, InterruptedException, ReflectiveOperationException {
        Path sources = Files.createDirectories(work.resolve("sources"));
        Path classes = Files.createDirectories(work.resolve("classes"));
        Path log = work.resolve("jextract.log");
        Process process =
                new ProcessBuilder(
                                executable.toString(),
                                "--output",
                                sources.toString(),
                                "--target-package",
                                PACKAGE,
                                "--header-class-name",
                                "tarpon_h",
                                "--library",
                                ":" + library,
                                header.toString())
                        .redirectErrorStream(true)
                        .redirectOutput(log.toFile())
                        .start();
        int status = process.waitFor();
        if (status != 0) {
            throw new IOException(
                    "%s ended with status %d: %s"
                            .formatted(executable, status, Files.readString(log)));
        }
        compile(sources, classes);
        try (URLClassLoader loader = new URLClassLoader(new URL[] {classes.toUri().toURL()})) {
            Path folder = classes.resolve(PACKAGE.replace('.', '/'));
            return BindingDescription.ofClasses(folder, PACKAGE, loader);
        }
    }

    private static void compile(Path sources, Path classes) throws IOException {
        List<String> arguments = new ArrayList<>(List.of("-d", classes.toString()));
        try (Stream<Path> files = Files.walk(sources)) {
            files.map(Path::toString)
                    .filter(name -> name.endsWith(".java"))
                    .forEach(arguments::add);
        }
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler.run(null, null, null, arguments.toArray(String[]::new)) != 0) {
            throw new IOException("what jextract generated does not compile; see above");
        }
    }
}
