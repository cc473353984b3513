package dev.tarpon.bench.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Every implementation takes the same steps, so that no ratio compares different work. */
class AdamWTest {
    private static final int SIZE = 5000;
    private static final int STEPS = 3;

    @ParameterizedTest
    @EnumSource(AdamWKind.class)
    void stepsAreTheSame(AdamWKind kind) {
        try (AdamW reference = AdamWKind.JAVA_FP32.create(SIZE, 1);
                AdamW other = kind.create(SIZE, 1)) {
            float[] before = reference.parameter();
            for (int step = 0; step < STEPS; step++) {
                reference.step();
                other.step();
            }
            float[] expected = reference.parameter();
            float[] actual = other.parameter();
            // A quantised state is off by some percent, and one far below its block's largest by
            // more: single parameters may differ by a step, their mean may not.
            boolean exact = kind.bytesPerParameter() == 28;
            double bound = exact ? 1e-6 : STEPS * AdamW.LR;
            double sum = 0;
            for (int i = 0; i < SIZE; i++) {
                assertNotEquals(before[i], actual[i], "p[%d] has not moved".formatted(i));
                assertEquals(expected[i], actual[i], bound, "%s p[%d]".formatted(kind, i));
                sum += Math.abs(expected[i] - actual[i]);
            }
            assertEquals(0, sum / SIZE, exact ? 1e-6 : 0.05 * STEPS * AdamW.LR, kind.label());
        }
    }

    @Test
    void unknownLabelsAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> AdamWKind.of("sgd"));
    }
}
