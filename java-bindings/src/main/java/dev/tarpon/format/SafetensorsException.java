package dev.tarpon.format;

/** A safetensors file is truncated, lies about its contents or breaks the format's rules. */
public final class SafetensorsException extends FormatException {
    private static final long serialVersionUID = 1L;

    SafetensorsException(String source, String detail) {
        super(source, detail);
    }

    SafetensorsException(String source, String detail, Throwable cause) {
        super(source, detail, cause);
    }
}
