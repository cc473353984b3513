package dev.tarpon.optim;

/**
 * What an optimizer's steps were so far.
 *
 * @param step steps taken; skipped ones do not count
 * @param skippedSteps steps skipped for a gradient that was not finite
 * @param skippedBlocks blocks of 256 elements skipped likewise, where {@link
 *     Hyperparameters#skipNonfinite} is off
 * @param gradNorm the norm over all gradients in the last step that measured it, before clipping
 */
public record OptimizerCounters(
        long step, long skippedSteps, long skippedBlocks, double gradNorm) {}
