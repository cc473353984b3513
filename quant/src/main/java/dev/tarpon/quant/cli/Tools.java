package dev.tarpon.quant.cli;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Asks other programs for their version. */
final class Tools {
    private static final Pattern VERSION = Pattern.compile("(\\d+)(?:\\.(\\d+))?");
    private static final int TIMEOUT_SECONDS = 20;

    private Tools() {}

    /** The first line that a program prints; empty if it is absent, fails or hangs. */
    static Optional<String> firstLine(String... command) {
        return lines(command).map(List::getFirst);
    }

    /** The last line that a program prints. */
    static Optional<String> lastLine(String... command) {
        return lines(command).map(List::getLast);
    }

    /** Major and minor version as a number, 3.25; 0 if the text has none. Minor is under 100. */
    static double version(String text) {
        Matcher matcher = VERSION.matcher(text);
        if (!matcher.find()) {
            return 0;
        }
        String minor = matcher.group(2) == null ? "0" : matcher.group(2);
        return Integer.parseInt(matcher.group(1)) + Integer.parseInt(minor) / 100.0;
    }

    private static Optional<List<String>> lines(String... command) {
        try {
            Process process =
                    new ProcessBuilder(command)
                            .redirectErrorStream(true)
                            .redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")))
                            .start();
            String text;
            try (var stream = process.getInputStream()) {
                text = new String(stream.readAllBytes(), StandardCharsets.UTF_8);
            }
            if (!process.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
                return Optional.empty();
            }
            List<String> lines = text.lines().filter(line -> !line.isBlank()).toList();
            return process.exitValue() == 0 && !lines.isEmpty()
                    ? Optional.of(lines)
                    : Optional.empty();
        } catch (IOException e) {
            return Optional.empty();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return Optional.empty();
        }
    }
}
