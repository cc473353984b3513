package dev.tarpon.quant.format;

import dev.tarpon.format.FormatException;

/** A file breaks the GGUF format, or uses a part of it that is not known. */
public final class GgufException extends FormatException {
    private static final long serialVersionUID = 1L;

    GgufException(String source, String detail) {
        super(source, detail);
    }
}
