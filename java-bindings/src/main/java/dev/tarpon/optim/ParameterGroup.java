package dev.tarpon.optim;

import java.util.List;

/**
 * Parameters that share factors.
 *
 * @param parameters at least one
 * @param lrFactor of the step's learning rate: 1 for ordinary parameters; 0 freezes them
 * @param decayFactor of the step's weight decay: 1 for weights, 0 for biases and norms
 */
public record ParameterGroup(List<Parameter> parameters, double lrFactor, double decayFactor) {
    /** Checks the factors. */
    public ParameterGroup {
        parameters = List.copyOf(parameters);
        if (parameters.isEmpty()) {
            throw new IllegalArgumentException("a group needs at least one parameter");
        }
        requireFactor("lrFactor", lrFactor);
        requireFactor("decayFactor", decayFactor);
    }

    /** Parameters with factors of 1. */
    public ParameterGroup(List<Parameter> parameters) {
        this(parameters, 1, 1);
    }

    /** The same without weight decay. */
    public ParameterGroup withoutDecay() {
        return new ParameterGroup(parameters, lrFactor, 0);
    }

    private static void requireFactor(String name, double factor) {
        if (!(factor >= 0) || Double.isInfinite(factor)) {
            throw new IllegalArgumentException(
                    "%s is %s; it must be finite and >= 0".formatted(name, factor));
        }
    }
}
