package dev.tarpon.quant.train;

import dev.tarpon.quant.llama.LlamaConfig;

/**
 * Everything that decides what a run computes; a checkpoint keeps it.
 *
 * @param model the shape of the model; its positions are the context
 * @param text a file of paragraphs, or null for the Europarl speeches
 * @param heldOutFraction of the documents
 * @param sequences windows of a step
 * @param learningRate the schedule and the number of steps
 * @param optimizer how parameters are stepped
 * @param seed of the split, the weights and the windows
 * @param evaluateEvery steps between two measurements on held-out text
 * @param heldOutTokens tokens of the last measurement; the others take an eighth of them
 */
public record TrainingOptions(
        LlamaConfig model,
        String text,
        double heldOutFraction,
        int sequences,
        LearningRate learningRate,
        OptimizerSettings optimizer,
        long seed,
        int evaluateEvery,
        int heldOutTokens) {
    /** Checks the ranges. */
    public TrainingOptions {
        if (!(heldOutFraction > 0 && heldOutFraction < 1)) {
            throw new IllegalArgumentException(
                    "held-out fraction %s; it must be over 0 and under 1"
                            .formatted(heldOutFraction));
        }
        requirePositive("batch", sequences);
        requirePositive("eval every", evaluateEvery);
        requirePositive("held-out tokens", heldOutTokens);
    }

    private static void requirePositive(String name, int value) {
        if (value < 1) {
            throw new IllegalArgumentException("%s %d; it must be >= 1".formatted(name, value));
        }
    }

    /** How many steps the run has. */
    int steps() {
        return learningRate.steps();
    }

    /** How long a window is. */
    int context() {
        return model.positions();
    }

    /** The same run with another seed and other states. */
    TrainingOptions with(long newSeed, OptimizerSettings newOptimizer) {
        return new TrainingOptions(
                model,
                text,
                heldOutFraction,
                sequences,
                learningRate,
                newOptimizer,
                newSeed,
                evaluateEvery,
                heldOutTokens);
    }
}
