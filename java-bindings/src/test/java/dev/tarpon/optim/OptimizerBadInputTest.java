package dev.tarpon.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Status;
import dev.tarpon.Stream;
import dev.tarpon.TarponException;
import dev.tarpon.Tensor;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

import java.util.List;

/** Wrong arguments and closed objects: exceptions that name them. */
class OptimizerBadInputTest {
    private final Device device = Device.open("cpu");
    private final Stream stream = device.createStream();
    private final Tensor value = device.allocate(DType.F32, 64).copyFrom(new float[64]);
    private final Tensor gradient = device.allocate(DType.F32, 64).copyFrom(new float[64]);

    @AfterEach
    void close() {
        device.close();
    }

    private Optimizer optimizer(OptimizerOptions options, Parameter... parameters) {
        return Optimizer.create(device, options, List.of(new ParameterGroup(List.of(parameters))));
    }

    private Optimizer adamw() {
        return optimizer(
                new OptimizerOptions(UpdateRule.ADAMW), new Parameter("w", value, gradient));
    }

    private static <T extends Exception> T fails(Class<T> type, Runnable call, String... parts) {
        T exception = assertThrows(type, call::run);
        for (String part : parts) {
            assertTrue(
                    exception.getMessage().contains(part),
                    () -> "no \"" + part + "\" in: " + exception.getMessage());
        }
        return exception;
    }

    @Test
    void parametersAreChecked() {
        Class<IllegalArgumentException> illegal = IllegalArgumentException.class;
        OptimizerOptions options = new OptimizerOptions(UpdateRule.ADAMW);
        Tensor bytes = device.allocate(DType.U8, 64);
        Tensor few = device.allocate(DType.F32, 63);
        fails(illegal, () -> new Parameter("w", value, few), "parameter w", "gradient", "F32[63]");
        fails(
                illegal,
                () -> new Parameter("w", value, gradient).withCopy(few),
                "parameter w",
                "copy");
        fails(
                illegal,
                () -> optimizer(options, new Parameter("w", value, bytes)),
                "gradient of parameter w",
                "U8[64]");
        Parameter w = new Parameter("w", value, gradient);
        fails(illegal, () -> optimizer(options, w, w), "two parameters", "w");
        fails(illegal, () -> new ParameterGroup(List.of()), "at least one");
        fails(illegal, () -> new ParameterGroup(List.of(w), -1, 1), "lrFactor is -1.0");
        fails(illegal, () -> new ParameterGroup(List.of(w), 1, Double.NaN), "decayFactor is NaN");
        fails(illegal, () -> Optimizer.create(device, options, List.of()), "at least one group");
        try (Device other = Device.open("cpu")) {
            fails(
                    illegal,
                    () -> Optimizer.create(other, options, List.of(new ParameterGroup(List.of(w)))),
                    "value of parameter w",
                    "another device");
        }
    }

    @Test
    void theLibraryNamesWhatItDoesNotServe() {
        OptimizerOptions options = new OptimizerOptions(UpdateRule.SGD, StateFormat.FP8, 0, null);
        Parameter w = new Parameter("w", value, gradient);
        TarponException format =
                fails(TarponException.class, () -> optimizer(options, w), "FP8", "SGD");
        assertEquals(Status.UNSUPPORTED, format.status());
        OptimizerOptions forced =
                new OptimizerOptions(UpdateRule.SGD, StateFormat.F32, 0, "cpu_abacus");
        fails(TarponException.class, () -> optimizer(forced, w), "cpu_abacus");
    }

    @Test
    void hyperparametersAreChecked() {
        try (Optimizer optimizer = adamw()) {
            fails(TarponException.class, () -> optimizer.step(-1, stream), "lr is -1");
            optimizer.hyperparameters().beta1(1);
            fails(TarponException.class, () -> optimizer.step(1, stream), "beta1 is 1");
            fails(TarponException.class, () -> optimizer.refreshHessian(stream), "SOPHIAG");
        }
    }

    @Test
    void closedObjectsAreNamed() {
        Class<IllegalStateException> illegal = IllegalStateException.class;
        Optimizer optimizer = adamw();
        Tensor state = optimizer.states().getFirst().states().getFirst();
        gradient.close();
        fails(illegal, () -> optimizer.step(1, stream), "Tensor F32[64] on cpu:0 is closed");
        optimizer.close();
        optimizer.close();
        fails(illegal, state::address, "is closed");
        fails(illegal, optimizer::counters, "Optimizer ADAMW of 1 parameters on cpu:0 is closed");
    }

    @Test
    void closingTheDeviceClosesTheOptimizer() {
        Optimizer optimizer = adamw();
        device.close();
        fails(IllegalStateException.class, () -> optimizer.step(1, stream), "is closed");
        optimizer.close();
    }

    @Test
    void aStreamThatIsClosedAfterAStepIsNoHindrance() {
        try (Optimizer optimizer = adamw()) {
            try (Stream brief = device.createStream()) {
                optimizer.step(1, brief);
            }
            assertEquals(1, optimizer.counters().step());
            optimizer.step(1, stream);
            assertEquals(2, optimizer.counters().step());
        }
    }
}
