package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.ArrayList;
import java.util.List;

/**
 * The linear layer against a binary64 product of the same dequantised weights, on every device:
 * mean and every element, nothing written outside y, and integers exactly.
 */
class LinearTest {
    /** Around the tiles of every kernel: 1, a little less, the same, a little more. */
    private static final int[] ROWS = {
        1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 128, 129
    };

    private static final int[] FEATURES = {64, 96, 128, 200, 384, 1000, 1536};

    /** Products beyond this take the simulator seconds, and get few rows there. */
    private static final int SIMULATOR_LIMIT = 10_000_000;

    private record Shape(int[] rows, int in, int out) {
        int maxRows() {
            return rows[rows.length - 1];
        }
    }

    private static List<Shape> shapes(Device device) {
        if (device.info().kind() == DeviceKind.SIM) {
            return simulatorShapes();
        }
        List<Shape> shapes = new ArrayList<>();
        for (int in : FEATURES) {
            for (int out : FEATURES) {
                shapes.add(new Shape(ROWS, in, out));
            }
        }
        return shapes;
    }

    /** All pairs of features, with the numbers of rows in turn, and each of those at least once. */
    private static List<Shape> simulatorShapes() {
        List<Shape> shapes = new ArrayList<>();
        int turn = 0;
        for (int in : FEATURES) {
            for (int out : FEATURES) {
                int rows = ROWS[turn++ % ROWS.length];
                if (rows * in * out > SIMULATOR_LIMIT) {
                    rows = ROWS[turn % 3];
                }
                shapes.add(new Shape(new int[] {rows}, in, out));
            }
        }
        for (int rows : ROWS) {
            shapes.add(new Shape(new int[] {rows}, 128, 64));
        }
        return shapes;
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void float16(String spec) {
        checkAllShapes(spec, DType.F16, 5e-4);
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void bfloat16(String spec) {
        checkAllShapes(spec, DType.BF16, 2e-3);
    }

    /** binary32 is the CPU's alone; the bar is ten units, for sums of up to 1536 products. */
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void float32(String spec) {
        try (Device device = TestDevices.open(spec)) {
            if (device.info().kind() != DeviceKind.CPU) {
                checkFloat32IsRefused(device);
                return;
            }
        }
        checkAllShapes(spec, DType.F32, 10 * 0x1p-24);
    }

    private static void checkFloat32IsRefused(Device device) {
        LinearCase layer = LinearCase.random(1, 64, 64, -1, DType.F32, 1);
        TarponException exception =
                assertThrows(
                        TarponException.class,
                        () -> QuantizedLinear.create(device, layer.weights, DType.F32));
        assertEquals(Status.UNSUPPORTED, exception.status());
        assertTrue(exception.getMessage().contains("F32"), exception::getMessage);
    }

    private static void checkAllShapes(String spec, DType dtype, double meanBar) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            for (Shape shape : shapes(device)) {
                for (int groupSize : new int[] {128, -1}) {
                    long seed = 31L * shape.in + shape.out + groupSize;
                    LinearCase layer =
                            LinearCase.random(
                                    shape.maxRows(), shape.in, shape.out, groupSize, dtype, seed);
                    check(device, stream, layer, shape.rows, meanBar);
                }
            }
        }
    }

    private static void check(
            Device device, Stream stream, LinearCase layer, int[] rowCounts, double meanBar) {
        try (QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, layer.dtype);
                Tensor x = device.allocate(layer.dtype, layer.rows, layer.in).copyFrom(layer.x);
                GuardedOutput output =
                        new GuardedOutput(device, layer.dtype, layer.rows, layer.out)) {
            for (int rows : rowCounts) {
                output.poison();
                linear.forward(x, output.y(), rows, stream);
                compare(layer, output.read(rows, stream), rows, linear, meanBar);
            }
        }
    }

    private static void compare(
            LinearCase layer, float[] y, int rows, QuantizedLinear linear, double meanBar) {
        DeviceKind kind = linear.device().info().kind();
        for (int m = 0; m < rows; m++) {
            for (int n = 0; n < layer.out; n++) {
                int i = m * layer.out + n;
                double error = Math.abs(y[i] - layer.expected[i]);
                if (!(error <= layer.bound(m, n, kind))) { // so that NaN fails, too
                    fail(
                            "%s: y[%d, %d] is %s, the exact product %s; the bound is %s"
                                    .formatted(
                                            name(layer, rows, linear),
                                            m,
                                            n,
                                            y[i],
                                            layer.expected[i],
                                            layer.bound(m, n, kind)));
                }
            }
        }
        double mean = meanError(layer, y);
        assertTrue(
                mean <= meanBar, () -> name(layer, rows, linear) + ": mean relative error " + mean);
    }

    /** sum |y - exact| / sum |exact| over the rows of y. */
    private static double meanError(LinearCase layer, float[] y) {
        double errors = 0;
        double magnitudes = 0;
        for (int i = 0; i < y.length; i++) {
            errors += Math.abs(y[i] - layer.expected[i]);
            magnitudes += Math.abs(layer.expected[i]);
        }
        return errors / magnitudes;
    }

    private static String name(LinearCase layer, int rows, QuantizedLinear linear) {
        return "%s m=%d K=%d N=%d group %d %s with %s"
                .formatted(
                        linear.device().info().spec(),
                        rows,
                        layer.in,
                        layer.out,
                        layer.weights.groupSize(),
                        layer.dtype,
                        linear.variant());
    }

    /** Equal to the integers on every device, hence bit-equal between devices. */
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void integersAreExact(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            int[][] shapes = {{1, 64, 64}, {5, 200, 96}, {17, 384, 128}, {33, 96, 200}};
            for (int[] shape : shapes) {
                for (DType dtype : new DType[] {DType.F16, DType.BF16}) {
                    for (int groupSize : new int[] {128, -1}) {
                        checkIntegers(device, stream, shape, dtype, groupSize);
                    }
                }
            }
        }
    }

    private static void checkIntegers(
            Device device, Stream stream, int[] shape, DType dtype, int groupSize) {
        LinearCase layer =
                LinearCase.integers(shape[0], shape[1], shape[2], groupSize, dtype, shape[1]);
        try (QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, dtype);
                Tensor x = device.allocate(dtype, layer.rows, layer.in).copyFrom(layer.x);
                Tensor y = device.allocate(dtype, layer.rows, layer.out)) {
            linear.forward(x, y, stream);
            float[] actual = y.toFloatArray();
            for (int i = 0; i < actual.length; i++) {
                // The sum is exact in binary32, so that only its rounding to the dtype remains.
                float expected = LinearCase.round((float) layer.expected[i], dtype);
                assertEquals(
                        expected,
                        actual[i],
                        "%s y[%d, %d]"
                                .formatted(
                                        name(layer, layer.rows, linear),
                                        i / layer.out,
                                        i % layer.out));
            }
        }
    }

    /**
     * The documented error of 0.7%, with room for small sums, and not none: it must be in effect.
     */
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void int8ActivationsAreTheCpusAlone(String spec) {
        LinearCase layer = LinearCase.random(17, 384, 200, 128, DType.F32, 4);
        LinearOptions options =
                new LinearOptions(DType.F32, null, LinearArithmetic.INT8_ACTIVATIONS);
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            if (device.info().kind() != DeviceKind.CPU) {
                TarponException exception =
                        assertThrows(
                                TarponException.class,
                                () -> QuantizedLinear.create(device, layer.weights, options));
                assertEquals(Status.UNSUPPORTED, exception.status());
                return;
            }
            try (QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, options);
                    Tensor x = device.allocate(DType.F32, layer.rows, layer.in).copyFrom(layer.x);
                    Tensor y = device.allocate(DType.F32, layer.rows, layer.out)) {
                linear.forward(x, y, stream);
                double mean = meanError(layer, y.toFloatArray());
                assertTrue(mean > 1e-3 && mean < 1e-2, () -> "mean relative error " + mean);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void noRowsTouchNothing(String spec) {
        LinearCase layer = LinearCase.random(1, 64, 64, -1, DType.F16, 2);
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, DType.F16);
                Tensor x = device.allocate(DType.F16, 1, 64).copyFrom(layer.x);
                GuardedOutput output = new GuardedOutput(device, DType.F16, 1, 64)) {
            output.poison();
            linear.forward(x, output.y(), 0, stream);
            assertEquals(0, output.read(0, stream).length);
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void workspaceNeverShrinksAndVariantCanBeForced(String spec) {
        LinearCase layer = LinearCase.random(1, 384, 64, 128, DType.F16, 3);
        try (Device device = TestDevices.open(spec);
                QuantizedLinear linear = QuantizedLinear.create(device, layer.weights, DType.F16)) {
            long last = 0;
            for (int rows : ROWS) {
                long bytes = linear.workspaceBytes(rows);
                assertTrue(bytes >= last, "%d rows: %d < %d".formatted(rows, bytes, last));
                last = bytes;
            }
            assertTrue(linear.weightsBytes() >= layer.weights.sizeBytes());
            LinearOptions forced = new LinearOptions(DType.F16, linear.variant());
            try (QuantizedLinear same = QuantizedLinear.create(device, layer.weights, forced)) {
                assertEquals(linear.variant(), same.variant());
            }
        }
    }
}
