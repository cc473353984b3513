package dev.tarpon.bench.linear;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DType;
import dev.tarpon.DeviceKind;
import dev.tarpon.bench.TimedDevice;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/** A baseline that computes something else would make every ratio meaningless. */
class ImplementationTest {
    static Stream<Arguments> implementationsAndDevices() {
        return Stream.of("cpu", "cuda:0")
                .flatMap(
                        device ->
                                Stream.of(Implementation.values())
                                        .filter(i -> i.appliesTo(layer(device).device().kind()))
                                        .map(i -> Arguments.of(i, device)));
    }

    private static LinearCase layer(String device) {
        return new LinearCase(new TimedDevice(device), 200, 322, 3, DType.F16, 0, 1 << 20);
    }

    @ParameterizedTest
    @MethodSource("implementationsAndDevices")
    void agreesWithDoublePrecision(Implementation implementation, String device) {
        LinearCase layer = layer(device);
        Optional<String> reason = implementation.unavailableReason(layer);
        assumeTrue(reason.isEmpty(), () -> implementation.label() + ": " + reason.orElseThrow());

        double[] expected = product(layer);
        try (LinearImplementation linear = implementation.create(layer)) {
            assertTrue(linear.weightSets() > 1, "the weights are not rotated");
            for (int set : List.of(0, linear.weightSets() - 1)) {
                linear.run(set);
                linear.synchronize();
                float[] actual = linear.output();
                for (int i = 0; i < expected.length; i++) {
                    // y is rounded to binary16 (2^-11 of |y| < 64); weights are too, by cuBLAS's
                    // baselines: 2^-11 of the sum of 200 products below 0.16 each.
                    double bound =
                            (64 + (layer.device().kind() == DeviceKind.CUDA ? 32 : 0)) / 2048.0;
                    // Half a step of 1 / 127 of each x up to 1.
                    if (implementation == Implementation.TARPON_INT8) {
                        bound += 200 * 0.16 / 254;
                    }
                    double tolerance = bound;
                    int at = i;
                    assertEquals(
                            expected[i],
                            actual[i],
                            tolerance,
                            () -> "row " + at / 322 + ", column " + at % 322 + ", set " + set);
                }
            }
        }
    }

    private static double[] product(LinearCase layer) {
        SampleLayer sample = new SampleLayer(layer);
        float[] w = sample.weights().dequantize();
        float[] x = sample.x();
        int in = (int) layer.inFeatures();
        int out = (int) layer.outFeatures();
        double[] y = new double[layer.rows() * out];
        for (int row = 0; row < layer.rows(); row++) {
            for (int k = 0; k < in; k++) {
                for (int n = 0; n < out; n++) {
                    y[row * out + n] += (double) x[row * in + k] * w[k * out + n];
                }
            }
        }
        return y;
    }
}
