package dev.tarpon.quant.format;

import dev.tarpon.format.FormatException;

/** An ONNX file is malformed, or holds something that this reader does not know. */
public final class OnnxException extends FormatException {
    private static final long serialVersionUID = 1L;

    OnnxException(String source, String detail) {
        super(source, detail);
    }
}
