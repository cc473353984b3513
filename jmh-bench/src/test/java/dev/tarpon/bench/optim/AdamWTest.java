package dev.tarpon.bench.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.DeviceOptions;
import dev.tarpon.Tarpon;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.Arrays;
import java.util.Optional;
import java.util.stream.Stream;

/** Every implementation takes the same steps, so that no ratio compares different work. */
class AdamWTest {
    private static final int SIZE = 5000;
    private static final int STEPS = 3;
    private static final int TENSORS = 3;

    static Stream<Arguments> cases() {
        return Arrays.stream(AdamWKind.values())
                .flatMap(
                        kind ->
                                Arrays.stream(DeviceKind.values())
                                        .filter(kind::appliesTo)
                                        .map(device -> Arguments.of(kind, device)));
    }

    @ParameterizedTest
    @MethodSource("cases")
    void stepsAreTheSame(AdamWKind kind, DeviceKind deviceKind) {
        Optional<String> absent = Tarpon.unavailableReason(deviceKind);
        assumeTrue(absent.isEmpty(), () -> "device " + deviceKind + ": " + absent.get());
        try (Device device = Device.open(deviceKind, 0, new DeviceOptions(1));
                AdamW reference = AdamWKind.JAVA_FP32.create(device, SIZE, 1);
                AdamW other = kind.create(device, SIZE, TENSORS)) {
            float[] before = reference.parameter();
            for (int step = 0; step < STEPS; step++) {
                reference.step();
                other.step();
            }
            other.synchronize();
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

    @Test
    void moreTensorsThanParametersAreRefused() {
        try (Device device = Device.open(DeviceKind.CPU, 0, new DeviceOptions(1))) {
            assertThrows(
                    IllegalArgumentException.class,
                    () -> AdamWKind.TARPON_8BIT.create(device, 5, 100));
        }
    }
}
