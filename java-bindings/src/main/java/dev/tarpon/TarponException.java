package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

/** A failure that the native library reports, in its own words, which carry the values involved. */
public class TarponException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final Status status;

    public TarponException(Status status, String message) {
        this(status, message, null);
    }

    public TarponException(Status status, String message, Throwable cause) {
        super(message, cause);
        this.status = status;
    }

    public Status status() {
        return status;
    }

    /** Turns the status of a native call into an exception; the one place that does. */
    static void check(int status) {
        if (status != tarpon_h.TARPON_OK) {
            throw fromLastError(status);
        }
    }

    // The text is thread-local in C. A virtual thread cannot change its carrier between the failed
    // call and this one, since nothing in between blocks.
    private static TarponException fromLastError(int status) {
        String text = NativeStrings.read(tarpon_h.tarpon_last_error());
        return new TarponException(Status.of(status), text);
    }
}
