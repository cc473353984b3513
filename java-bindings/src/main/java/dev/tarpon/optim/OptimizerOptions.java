package dev.tarpon.optim;

import dev.tarpon.ffi.tarpon_optim_h;

import java.util.Objects;

/**
 * What an optimizer is made with.
 *
 * @param rule how a step updates
 * @param stateFormat of the states of parameters that override nothing
 * @param minQuantizedSize parameters with fewer elements have F32 states unless they override it
 * @param variant the kernel to use; null lets the library choose
 */
public record OptimizerOptions(
        UpdateRule rule, StateFormat stateFormat, long minQuantizedSize, String variant) {
    /** 4096 elements: below it a quantised state saves nothing that counts. */
    public static final long MIN_QUANTIZED_SIZE = tarpon_optim_h.TARPON_OPTIM_MIN_QUANTIZED_ELEMS;

    /** Checks the size. */
    public OptimizerOptions {
        Objects.requireNonNull(rule, "rule");
        Objects.requireNonNull(stateFormat, "stateFormat");
        if (minQuantizedSize < 0) {
            throw new IllegalArgumentException(
                    "minQuantizedSize is %d; it must be >= 0".formatted(minQuantizedSize));
        }
    }

    /** 8-bit states from {@link #MIN_QUANTIZED_SIZE} elements on. */
    public OptimizerOptions(UpdateRule rule) {
        this(rule, StateFormat.DYNAMIC8);
    }

    /** States in a format from {@link #MIN_QUANTIZED_SIZE} elements on. */
    public OptimizerOptions(UpdateRule rule, StateFormat stateFormat) {
        this(rule, stateFormat, MIN_QUANTIZED_SIZE, null);
    }

    StateFormat formatOf(Parameter parameter) {
        if (parameter.stateFormat() != null) {
            return parameter.stateFormat();
        }
        return parameter.value().size() < minQuantizedSize ? StateFormat.F32 : stateFormat;
    }
}
