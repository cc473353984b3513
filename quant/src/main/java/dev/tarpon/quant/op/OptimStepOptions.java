package dev.tarpon.quant.op;

import dev.tarpon.optim.Hyperparameters;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.util.function.Consumer;

/**
 * What optim-step is told.
 *
 * @param rule how a step updates
 * @param stateFormat of the states, whatever the parameter's size
 * @param momentum for SCALE: whether the parameter has a state
 * @param hessianEvery for Sophia-G: steps between refreshes of h, each from the gradient of its
 *     step; 0 for never
 * @param hyperparameters sets the numbers that differ from the rule's defaults
 */
public record OptimStepOptions(
        UpdateRule rule,
        StateFormat stateFormat,
        boolean momentum,
        int hessianEvery,
        Consumer<Hyperparameters> hyperparameters) {}
