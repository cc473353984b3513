package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PrintWriter;
import java.io.StringWriter;

/** What one run of the command line printed and returned. */
record CliRun(int exitCode, String out, String err) {
    static CliRun of(Object... arguments) {
        String[] texts = new String[arguments.length];
        for (int i = 0; i < texts.length; i++) {
            texts[i] = arguments[i].toString();
        }
        var out = new StringWriter();
        var err = new StringWriter();
        int exitCode = Main.run(new PrintWriter(out), new PrintWriter(err), texts);
        return new CliRun(exitCode, out.toString(), err.toString());
    }

    /** Checks success; otherwise shows the error. */
    CliRun succeeds() {
        assertEquals(0, exitCode, err);
        return this;
    }

    /** Checks the exit code and that the message says all of this, without a stack trace. */
    CliRun fails(int expectedCode, String... parts) {
        for (String part : parts) {
            assertTrue(err.contains(part), () -> "expected \"" + part + "\" in: " + err);
        }
        assertFalse(err.contains("\tat "), () -> "a stack trace: " + err);
        assertEquals(expectedCode, exitCode, err);
        return this;
    }
}
