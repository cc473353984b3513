package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
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

    /**
     * {rows, in, out} for the simulator, which takes 1000 times as long: every number of rows and
     * every size of both features at least once.
     */
    private static final int[][] SIM_SHAPES = {
        {1, 64, 1536}, {2, 96, 200}, {3, 128, 128}, {4, 200, 96}, {7, 384, 64}, {8, 1000, 64},
        {9, 1536, 64}, {15, 64, 384}, {16, 128, 64}, {17, 96, 64}, {31, 64, 96}, {32, 128, 64},
        {33, 64, 64}, {63, 64, 64}, {64, 96, 64}, {65, 64, 64}, {100, 64, 64}, {128, 64, 64},
        {129, 64, 64}, {1, 384, 1000},
    };

    private record Shape(int[] rows, int in, int out) {
        int maxRows() {
            return rows[rows.length - 1];
        }
    }

    private static List<Shape> shapes(Device device) {
        List<Shape> shapes = new ArrayList<>();
        if (device.info().kind() == DeviceKind.SIM) {
            for (int[] shape : SIM_SHAPES) {
                shapes.add(new Shape(new int[] {shape[0]}, shape[1], shape[2]));
            }
        } else {
            for (int in : FEATURES) {
                for (int out : FEATURES) {
                    shapes.add(new Shape(ROWS, in, out));
                }
            }
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
                org.junit.jupiter.api.Assertions.assertThrows(
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
        double errors = 0;
        double magnitudes = 0;
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
                errors += error;
                magnitudes += Math.abs(layer.expected[i]);
            }
        }
        double mean = errors / magnitudes;
        assertTrue(
                mean <= meanBar, () -> name(layer, rows, linear) + ": mean relative error " + mean);
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
