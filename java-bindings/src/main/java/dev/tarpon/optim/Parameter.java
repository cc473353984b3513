package dev.tarpon.optim;

import dev.tarpon.Tensor;

import java.util.Objects;

/**
 * A tensor that an optimizer updates, and where its gradient is. The memory is the caller's and has
 * to stay open as long as steps are taken; gradients are written between the steps.
 *
 * @param name unique within an optimizer; for messages and for saved states
 * @param value the parameter, of F32, F16 or BF16
 * @param gradient as many elements of F32, F16 or BF16
 * @param copy null, or as many elements of F32, F16 or BF16 that receive the rounded parameter
 *     after each step, where value is an F32 master
 * @param stateFormat null for the optimizer's, or an override, such as F32 for embeddings
 * @param momentum for {@link UpdateRule#SCALE}: this parameter, the model's last layer, has a state
 */
public record Parameter(
        String name,
        Tensor value,
        Tensor gradient,
        Tensor copy,
        StateFormat stateFormat,
        boolean momentum) {
    /** Checks that what belongs together has the same number of elements. */
    public Parameter {
        Objects.requireNonNull(name, "name");
        Objects.requireNonNull(value, "value");
        Objects.requireNonNull(gradient, "gradient");
        requireSize(name, value, "gradient", gradient);
        if (copy != null) {
            requireSize(name, value, "copy", copy);
        }
    }

    /** A parameter without a copy and without overrides. */
    public Parameter(String name, Tensor value, Tensor gradient) {
        this(name, value, gradient, null, null, false);
    }

    /** The same with a copy that receives the rounded parameter. */
    public Parameter withCopy(Tensor newCopy) {
        return new Parameter(name, value, gradient, newCopy, stateFormat, momentum);
    }

    /** The same with states in this format, whatever its size. */
    public Parameter withStateFormat(StateFormat format) {
        return new Parameter(name, value, gradient, copy, format, momentum);
    }

    /** The same with a state in {@link UpdateRule#SCALE}. */
    public Parameter withMomentum() {
        return new Parameter(name, value, gradient, copy, stateFormat, true);
    }

    private static void requireSize(String name, Tensor value, String role, Tensor tensor) {
        if (tensor.size() != value.size()) {
            throw new IllegalArgumentException(
                    "parameter %s is %s, but its %s is %s".formatted(name, value, role, tensor));
        }
    }
}
