package dev.tarpon.format;

import java.io.IOException;

/** A file is not what its format asks for. The message names the file and the offending values. */
public class FormatException extends IOException {
    private static final long serialVersionUID = 1L;

    /**
     * @param source the file, as messages should name it
     * @param detail what is wrong with it, with the values
     */
    public FormatException(String source, String detail) {
        super(source + ": " + detail);
    }

    /** The same, with the failure that revealed it. */
    public FormatException(String source, String detail, Throwable cause) {
        super(source + ": " + detail, cause);
    }
}
