package dev.tarpon.ffi;

/** Why the native library could not be found, extracted or loaded. */
public final class LibraryUnavailableException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    LibraryUnavailableException(String message) {
        super(message);
    }

    LibraryUnavailableException(String message, Throwable cause) {
        super(message, cause);
    }
}
