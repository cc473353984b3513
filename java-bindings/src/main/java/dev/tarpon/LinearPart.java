package dev.tarpon;

import java.util.Objects;

/**
 * One of the linear layers that a {@link QuantizedLinear} computes from one x, such as Q, K and V.
 *
 * @param weights the weights; all parts have the same format and input features
 * @param bias [outFeatures], rounded to the activation dtype at create and copied then; or null
 */
public record LinearPart(QuantizedWeights weights, float[] bias) {
    /** Checks that the bias has an element for each output feature. */
    public LinearPart {
        Objects.requireNonNull(weights, "weights");
        if (bias != null && bias.length != weights.outFeatures()) {
            throw new IllegalArgumentException(
                    "bias has %d elements; %s has %d output features"
                            .formatted(bias.length, weights, weights.outFeatures()));
        }
    }

    /** Without a bias. */
    public LinearPart(QuantizedWeights weights) {
        this(weights, null);
    }
}
