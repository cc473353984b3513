package dev.tarpon.quant.kv;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.util.Arrays;
import java.util.Random;

/** Sinks by massive activations, against the definition. */
class MassiveActivationsTest {
    private static final int HIDDEN = 16;

    private static float[] random(int tokens) {
        var random = new Random(9);
        float[] x = new float[tokens * HIDDEN];
        for (int i = 0; i < x.length; i++) {
            x[i] = (float) random.nextGaussian();
        }
        return x;
    }

    /** Positions of the 20 entries that are largest in magnitude, each once. */
    private static int[] definition(float[] x) {
        Integer[] order = new Integer[x.length];
        Arrays.setAll(order, i -> i);
        Arrays.sort(order, (a, b) -> Float.compare(Math.abs(x[b]), Math.abs(x[a])));
        return Arrays.stream(order)
                .limit(20)
                .mapToInt(i -> i / HIDDEN)
                .distinct()
                .sorted()
                .toArray();
    }

    @Test
    void test_a_whole_sequence_has_those_of_the_definition() {
        float[] x = random(200);
        assertArrayEquals(definition(x), MassiveActivations.positions(x, HIDDEN));
        // Two tokens carry all of them, as in large models.
        for (int i = 0; i < 10; i++) {
            x[i] = 100 + i;
            x[77 * HIDDEN + i] = -100 - i;
        }
        assertArrayEquals(new int[] {0, 77}, MassiveActivations.positions(x, HIDDEN));
    }

    @Test
    void test_tokens_that_follow_count_if_they_are_among_the_largest_so_far() {
        float[] x = random(200);
        x[150 * HIDDEN + 3] = 50;
        Arrays.fill(x, 151 * HIDDEN, 152 * HIDDEN, 1e-3f);
        var activations = new MassiveActivations(HIDDEN, 64);
        activations.add(x, 0, 150);
        int[] prompt = definition(Arrays.copyOf(x, 150 * HIDDEN));
        assertArrayEquals(prompt, activations.positions());
        var resumed = new MassiveActivations(HIDDEN, 64);
        resumed.restore(activations.positions(), activations.largest(), 150);
        for (int t = 150; t < 200; t++) {
            activations.add(x, t * HIDDEN, 1);
            resumed.add(x, t * HIDDEN, 1);
        }
        int[] positions = activations.positions();
        assertArrayEquals(prompt, Arrays.copyOf(positions, prompt.length));
        assertTrue(positions[prompt.length] == 150, Arrays.toString(positions));
        assertTrue(Arrays.stream(positions).noneMatch(p -> p == 151), Arrays.toString(positions));
        assertArrayEquals(positions, resumed.positions());
        assertArrayEquals(activations.largest(), resumed.largest());
    }

    @Test
    void test_there_are_no_more_than_there_is_room_for() {
        float[] x = random(200);
        var activations = new MassiveActivations(HIDDEN, 3);
        activations.add(x, 0, 100);
        activations.add(x, 100 * HIDDEN, 100);
        int[] first = definition(Arrays.copyOf(x, 100 * HIDDEN));
        assertArrayEquals(Arrays.copyOf(first, 3), activations.positions());
        assertThrows(
                IllegalArgumentException.class,
                () -> activations.restore(new int[] {1, 2, 3, 4}, new float[20], 9));
    }
}
