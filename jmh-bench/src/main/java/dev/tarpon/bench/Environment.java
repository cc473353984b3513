package dev.tarpon.bench;

import dev.tarpon.DeviceInfo;
import dev.tarpon.Tarpon;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Where and from what the figures of a report come.
 *
 * @param commit of Tarpon, with "-dirty" if files were changed
 * @param command that repeats the run
 * @param nvidiaDriver version of the kernel driver, or "none"
 */
record Environment(
        String date,
        String commit,
        String command,
        String tarpon,
        String processor,
        int logicalProcessors,
        long memoryBytes,
        String kernel,
        String java,
        String nvidiaDriver,
        List<DeviceInfo> devices) {
    /**
     * @param commit empty to ask git in the current directory
     */
    static Environment read(String command, Optional<String> commit) {
        return new Environment(
                Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
                commit.orElseGet(Environment::gitCommit),
                command,
                Tarpon.version(),
                field(Path.of("/proc/cpuinfo"), "model name").orElse("unknown"),
                Runtime.getRuntime().availableProcessors(),
                field(Path.of("/proc/meminfo"), "MemTotal")
                        .map(kib -> Long.parseLong(kib.split(" ")[0]) * 1024)
                        .orElse(0L),
                System.getProperty("os.name") + " " + System.getProperty("os.version"),
                System.getProperty("java.vendor") + " " + Runtime.version(),
                readNvidiaDriver(),
                Tarpon.devices());
    }

    /** The value of the first "name : value" line of a /proc file. */
    private static Optional<String> field(Path file, String name) {
        try (Stream<String> lines = Files.lines(file)) {
            return lines.filter(line -> line.startsWith(name))
                    .map(line -> line.substring(line.indexOf(':') + 1).strip())
                    .findFirst();
        } catch (IOException absent) {
            return Optional.empty();
        }
    }

    private static String readNvidiaDriver() {
        try {
            String text = Files.readString(Path.of("/proc/driver/nvidia/version"));
            return text.lines().findFirst().orElse("unknown").strip();
        } catch (IOException absent) {
            return "none";
        }
    }

    private static String gitCommit() {
        try {
            Process git =
                    new ProcessBuilder("git", "describe", "--always", "--dirty", "--abbrev=12")
                            .redirectError(ProcessBuilder.Redirect.DISCARD)
                            .start();
            String commit =
                    new String(git.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
            return git.waitFor() == 0 && !commit.isEmpty() ? commit : "unknown";
        } catch (IOException absent) {
            return "unknown";
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            return "unknown";
        }
    }
}
