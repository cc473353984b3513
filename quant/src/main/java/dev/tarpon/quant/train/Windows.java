package dev.tarpon.quant.train;

import dev.tarpon.format.FormatException;

import java.util.SplittableRandom;

/**
 * The passes of a run: windows of a text as token ids, and what follows each token. Which windows a
 * step has depends on the seed and the step alone, so that a resumed run sees the same ones.
 */
final class Windows {
    private final byte[] text;
    private final int sequences;
    private final int context;

    /** Ids of the current pass, [sequences * context]. */
    final int[] tokens;

    /** What follows each of them. */
    final int[] targets;

    /**
     * Windows over a text.
     *
     * @param source what messages call the text
     * @throws FormatException if the text is shorter than one window
     */
    Windows(String source, byte[] text, int sequences, int context) throws FormatException {
        if (text.length < context + 1) {
            throw new FormatException(
                    source,
                    "%d bytes are fewer than a context of %d takes"
                            .formatted(text.length, context));
        }
        this.text = text;
        this.sequences = sequences;
        this.context = context;
        this.tokens = new int[sequences * context];
        this.targets = new int[sequences * context];
    }

    /** Windows that start anywhere. */
    void random(long seed, long step) {
        var random = new SplittableRandom(mix(seed, step));
        for (int sequence = 0; sequence < sequences; sequence++) {
            fill(sequence, random.nextInt(text.length - context));
        }
    }

    /** The pass of a number out of so many whose windows cover the text evenly. */
    void even(int pass, int passes) {
        long windows = (long) passes * sequences;
        for (int sequence = 0; sequence < sequences; sequence++) {
            long window = (long) pass * sequences + sequence;
            long room = text.length - context - 1L;
            fill(sequence, Math.toIntExact(windows == 1 ? 0 : room * window / (windows - 1)));
        }
    }

    private void fill(int sequence, int start) {
        for (int t = 0; t < context; t++) {
            tokens[sequence * context + t] = text[start + t] & 0xff;
            targets[sequence * context + t] = text[start + t + 1] & 0xff;
        }
    }

    /** A seed of its own for each step: neighbouring steps must not draw neighbouring windows. */
    static long mix(long seed, long step) {
        return new SplittableRandom(seed ^ Long.rotateLeft(step * 0x9E3779B97F4A7C15L, 17))
                .nextLong();
    }
}
