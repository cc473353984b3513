package dev.tarpon;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A program run in a Java process of its own, for what can happen only once in a process. */
final class JavaProcess {
    private static final int LIMIT_SECONDS = 60;

    private JavaProcess() {}

    /** How a process ended, and what it wrote to both of its streams. */
    record Result(int status, String output) {}

    /**
     * Runs the main class with Tarpon's classes and {@code extraPath} on the class path.
     *
     * @param environment variables to add to this process's own
     */
    static Result run(
            String mainClass,
            List<Path> extraPath,
            Map<String, String> properties,
            Map<String, String> environment)
            throws IOException, InterruptedException {
        List<String> path = new ArrayList<>();
        extraPath.forEach(entry -> path.add(entry.toString()));
        path.add(location(Tarpon.class));
        path.add(location(JavaProcess.class));
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("--enable-native-access=ALL-UNNAMED");
        properties.forEach((name, value) -> command.add("-D" + name + "=" + value));
        command.addAll(List.of("-cp", String.join(File.pathSeparator, path), mainClass));
        Path output = Files.createTempFile("tarpon-test", ".log");
        try {
            ProcessBuilder builder =
                    new ProcessBuilder(command)
                            .redirectErrorStream(true)
                            .redirectOutput(output.toFile());
            builder.environment().putAll(environment);
            Process process = builder.start();
            if (!process.waitFor(LIMIT_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
                throw new IOException(mainClass + " ran for more than " + LIMIT_SECONDS + " s");
            }
            return new Result(process.exitValue(), Files.readString(output));
        } finally {
            Files.delete(output);
        }
    }

    private static String location(Class<?> type) {
        return type.getProtectionDomain().getCodeSource().getLocation().getPath();
    }
}
