package dev.tarpon.quant.convert;

import dev.tarpon.QuantizedWeights;

import java.io.IOException;

/**
 * A linear layer that a model holds quantised already.
 *
 * @param layer the layer's name
 * @param bytes what its weight takes in the source
 * @param reader reads it, each time anew
 */
public record QuantizedLayer(String layer, long bytes, Reader reader) {
    /** Reads a weight from the open model. */
    @FunctionalInterface
    public interface Reader {
        QuantizedWeights read() throws IOException;
    }
}
