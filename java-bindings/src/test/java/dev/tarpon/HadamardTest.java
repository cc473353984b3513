package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.Random;

/** The transform on every device, against the matrix that defines it. */
class HadamardTest {
    private static float[] random(long seed, int count) {
        Random random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static float[] transform(Device device, DType dtype, float[] x, int rows, int n) {
        try (Stream stream = device.createStream();
                Tensor input = device.allocate(dtype, rows, n).copyFrom(x);
                GuardedOutput y = new GuardedOutput(device, dtype, rows, n)) {
            y.poison();
            Hadamard.transform(input, y.y(), stream);
            return y.read(rows, stream);
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void powersOfTwoAreSylvestersMatrix(String spec) {
        try (Device device = TestDevices.open(spec)) {
            for (int n : new int[] {2, 8, 64, 512}) {
                float[] x = random(n, 3 * n);
                float[] y = transform(device, DType.F32, x, 3, n);
                for (int i = 0; i < y.length; i++) {
                    double sum = 0;
                    double magnitude = 0;
                    for (int j = 0; j < n; j++) {
                        float element = x[i / n * n + j];
                        sum += Integer.bitCount(i % n & j) % 2 == 0 ? element : -element;
                        magnitude += Math.abs(element);
                    }
                    // log2(n) <= 9 roundings of partial sums, and those of the scale.
                    double bound = 12 * Math.ulp(1f) * magnitude / Math.sqrt(n);
                    assertEquals(sum / Math.sqrt(n), y[i], bound, "n %d, y[%d]".formatted(n, i));
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void otherOrdersAreSymmetricHadamardMatrices(String spec) {
        try (Device device = TestDevices.open(spec)) {
            for (int n : new int[] {12, 20, 28, 48, 160}) {
                float[] identity = new float[n * n];
                for (int i = 0; i < n; i++) {
                    identity[i * n + i] = 1;
                }
                float[] h = transform(device, DType.F32, identity, n, n);
                for (int i = 0; i < n; i++) {
                    for (int j = 0; j < n; j++) {
                        String place = "n %d, H[%d, %d]".formatted(n, i, j);
                        assertEquals(1 / Math.sqrt(n), Math.abs(h[i * n + j]), 1e-6, place);
                        assertEquals(h[j * n + i], h[i * n + j], place);
                        double product = 0;
                        for (int k = 0; k < n; k++) {
                            product += (double) h[i * n + k] * h[j * n + k];
                        }
                        assertEquals(i == j ? 1 : 0, product, 1e-6, place + " of H times H");
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void devicesAgreeInBitsInPlaceAndInAllTypes(String spec) {
        try (Device cpu = Device.open("cpu");
                Device device = TestDevices.open(spec);
                Stream stream = device.createStream()) {
            for (DType dtype : new DType[] {DType.F32, DType.F16, DType.BF16}) {
                float[] x = random(7, 2 * 3 * 192);
                try (Tensor inPlace = device.allocate(dtype, 2, 3, 192).copyFrom(x)) {
                    Hadamard.transform(inPlace, inPlace, stream);
                    assertArrayEquals(
                            transform(cpu, dtype, x, 6, 192),
                            inPlace.toFloatArray(),
                            dtype.toString());
                }
            }
        }
    }

    @Test
    void badArgumentsAreNamed() {
        try (Device device = Device.open("cpu");
                Device other = Device.open("cpu");
                Stream stream = device.createStream();
                Tensor x = device.allocate(DType.F32, 2, 64);
                Tensor y = device.allocate(DType.F32, 2, 64);
                Tensor bytes = device.allocate(DType.U8, 2, 64);
                Tensor halves = device.allocate(DType.F16, 2, 64);
                Tensor elsewhere = other.allocate(DType.F32, 2, 64);
                Tensor odd = device.allocate(DType.F32, 2, 36);
                Tensor shifted = device.wrapAddress(x.address() + 4, DType.F32, 2, 63);
                Tensor part = device.wrapAddress(x.address(), DType.F32, 2, 63)) {
            assertMessage(() -> Hadamard.transform(bytes, y, stream), "x is Tensor U8[2, 64]");
            assertMessage(() -> Hadamard.transform(x, halves, stream), "F32[2, 64]", "F16[2, 64]");
            assertMessage(() -> Hadamard.transform(x, odd, stream), "F32[2, 64]", "F32[2, 36]");
            assertMessage(() -> Hadamard.transform(x, elsewhere, stream), "another device");
            assertMessage(() -> Hadamard.transform(part, shifted, stream), "x at 0x", "overlaps");
            assertThrows(NullPointerException.class, () -> Hadamard.transform(x, null, stream));
            TarponException order =
                    assertThrows(TarponException.class, () -> Hadamard.transform(odd, odd, stream));
            assertEquals(Status.INVALID_ARGUMENT, order.status());
            assertTrue(order.getMessage().contains("36"), order.getMessage());
            y.close();
            IllegalStateException closed =
                    assertThrows(
                            IllegalStateException.class, () -> Hadamard.transform(x, y, stream));
            assertTrue(closed.getMessage().contains("F32[2, 64] on cpu:0 is closed"));
        }
    }

    private static void assertMessage(Runnable call, String... parts) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }
}
