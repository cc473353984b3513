package dev.tarpon.quant.kv;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * Finds a sequence's attention sinks in one layer as RotateKV does: the tokens that have one of the
 * 20 entries of the layer's input that are largest in magnitude (Su et al., "RotateKV", IJCAI 2025,
 * section 3.3). The publication looks at a whole prompt; here tokens may follow, and one of them is
 * a sink if it has one of the 20 largest entries so far. A token that was found stays a sink.
 *
 * <p>Not thread-safe.
 */
public final class MassiveActivations {
    /** Entries that count, and so the most tokens that one look finds. */
    public static final int ENTRIES = 20;

    private final int hidden;
    private final int room;
    // Magnitudes, rising; zeros where there were fewer entries.
    private float[] largest = new float[ENTRIES];
    private int[] positions = new int[0];
    private int tokens;

    /**
     * Nothing is found yet.
     *
     * @param hidden entries of a token
     * @param room how many sinks there may be; later ones are not kept
     */
    public MassiveActivations(int hidden, int room) {
        this.hidden = hidden;
        this.room = room;
    }

    /**
     * Looks at the sequence's next tokens.
     *
     * @param x the layer's input, {@code count} tokens of {@code hidden} entries from {@code at} on
     */
    public void add(float[] x, int at, int count) {
        int entries = count * hidden;
        float[] all = Arrays.copyOf(largest, ENTRIES + entries);
        for (int i = 0; i < entries; i++) {
            all[ENTRIES + i] = Math.abs(x[at + i]);
        }
        Arrays.sort(all);
        largest = Arrays.copyOfRange(all, entries, ENTRIES + entries);
        int[] found =
                IntStream.range(0, count)
                        .filter(t -> reaches(x, at + t * hidden))
                        .map(t -> tokens + t)
                        .limit(room - positions.length)
                        .toArray();
        int known = positions.length;
        positions = Arrays.copyOf(positions, known + found.length);
        System.arraycopy(found, 0, positions, known, found.length);
        tokens += count;
    }

    private boolean reaches(float[] x, int at) {
        for (int i = at; i < at + hidden; i++) {
            if (Math.abs(x[i]) >= largest[0]) {
                return true;
            }
        }
        return false;
    }

    /** Positions of the sinks so far, rising. */
    public int[] positions() {
        return positions.clone();
    }

    /** The largest magnitudes so far, rising, zeros first; with the positions, all there is. */
    public float[] largest() {
        return largest.clone();
    }

    /**
     * Goes on from what another one found.
     *
     * @param seen how many tokens it has seen
     */
    public void restore(int[] foundPositions, float[] foundLargest, int seen) {
        if (foundPositions.length > room || foundLargest.length != ENTRIES) {
            throw new IllegalArgumentException(
                    "%d positions and %d magnitudes; there is room for %d, and %d are kept"
                            .formatted(foundPositions.length, foundLargest.length, room, ENTRIES));
        }
        positions = foundPositions.clone();
        largest = foundLargest.clone();
        tokens = seen;
    }

    /** The sinks of a whole sequence [tokens, hidden]. */
    public static int[] positions(float[] x, int hidden) {
        var activations = new MassiveActivations(hidden, ENTRIES);
        activations.add(x, 0, x.length / hidden);
        return activations.positions();
    }
}
