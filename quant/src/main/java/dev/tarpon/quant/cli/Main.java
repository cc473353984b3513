package dev.tarpon.quant.cli;

import picocli.CommandLine;

import java.io.PrintStream;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;

/** Entry point of the command line; the launcher script {@code tarpon} runs it. */
public final class Main {
    private Main() {}

    /** Runs a command and ends the process with its exit code. */
    public static void main(String[] args) {
        PrintWriter out = writer(System.out);
        PrintWriter err = writer(System.err);
        int code = run(out, err, args);
        out.flush();
        err.flush();
        System.exit(code);
    }

    /** Runs a command and returns its exit code. */
    public static int run(PrintWriter out, PrintWriter err, String... args) {
        try {
            return new CommandLine(new TarponCommand())
                    .setOut(out)
                    .setErr(err)
                    .setCaseInsensitiveEnumValuesAllowed(true)
                    .setExecutionExceptionHandler(new ErrorReporter())
                    .setUsageHelpAutoWidth(true)
                    .execute(args);
        } catch (OutOfMemoryError exhausted) {
            err.printf(
                    "tarpon: out of memory (%s); the Java heap may take %s, and more with the"
                            + " environment variable JAVA_TOOL_OPTIONS=-Xmx16g%n",
                    exhausted.getMessage(), Units.shortBytes(Runtime.getRuntime().maxMemory()));
            return ExitCode.FAILURE;
        }
    }

    private static PrintWriter writer(PrintStream stream) {
        return new PrintWriter(stream, true, StandardCharsets.UTF_8);
    }
}
