package dev.tarpon.optim;

import dev.tarpon.Tensor;

import java.util.List;

/**
 * The states of one parameter, slot by slot in the order that {@link UpdateRule} names them. The
 * tensors are the optimizer's: they may be copied to and from between steps, not closed.
 *
 * @param parameter whose states these are
 * @param format how they are kept
 * @param states for each slot F32, or U8 codes, as many as the parameter has elements
 * @param absmax for each slot F32, the scales of its blocks; empty for format F32
 */
public record ParameterState(
        Parameter parameter, StateFormat format, List<Tensor> states, List<Tensor> absmax) {
    /** Copies the lists. */
    public ParameterState {
        states = List.copyOf(states);
        absmax = List.copyOf(absmax);
    }
}
