package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.TreeSet;

/** Block-wise quantisation on every device, against the nearest value of the map. */
class BlockwiseQuantizerTest {
    /** What a quantisation wrote and reads back as. */
    private record Result(byte[] codes, float[] absmax, float[] y) {}

    private static Result roundTrip(
            Device device, BlockwiseQuantizer quantizer, DType dtype, float[] x) {
        int n = x.length;
        try (Stream stream = device.createStream();
                Tensor values = device.allocate(dtype, n).copyFrom(x);
                Tensor codes = device.allocate(DType.U8, quantizer.codeBytes(n));
                Tensor absmax = device.allocate(DType.F32, quantizer.blocks(n));
                GuardedOutput y = new GuardedOutput(device, dtype, 1, n)) {
            quantizer.quantize(values, codes, absmax, stream);
            y.poison();
            quantizer.dequantize(codes, absmax, y.y(), stream);
            byte[] bytes = new byte[Math.toIntExact(codes.size())];
            codes.copyTo(MemorySegment.ofArray(bytes), stream);
            return new Result(bytes, absmax.toFloatArray(), y.read(1, stream));
        }
    }

    private static float[] random(int n) {
        Random random = new Random(n);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) (random.nextGaussian() * Math.exp(2 * random.nextGaussian()));
        }
        return values;
    }

    /** Rounded middles decide, in binary32; on a middle the lower value wins. */
    private static float nearest(TreeSet<Float> levels, float normalized) {
        float chosen = levels.first();
        for (float level : levels) {
            if (normalized > (chosen + level) * 0.5f) {
                chosen = level;
            }
        }
        return chosen;
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void valuesAreTheNearestOfTheMap(String spec) {
        try (Device device = TestDevices.open(spec)) {
            for (CodeMap map : CodeMap.values()) {
                TreeSet<Float> levels = new TreeSet<>();
                for (float level : map.codebook()) {
                    if (!Float.isNaN(level)) {
                        levels.add(level + 0f); // -0 is 0
                    }
                }
                for (int n : new int[] {1, 64, 65, 1001}) {
                    for (int blockSize : new int[] {64, 256}) {
                        float[] x = random(n);
                        BlockwiseQuantizer quantizer = new BlockwiseQuantizer(map, blockSize);
                        Result result = roundTrip(device, quantizer, DType.F32, x);
                        for (int i = 0; i < n; i++) {
                            float absmax = 0;
                            int begin = i / blockSize * blockSize;
                            for (int j = begin; j < Math.min(n, begin + blockSize); j++) {
                                absmax = Math.max(absmax, Math.abs(x[j]));
                            }
                            String place = "%s of %d, x[%d] = %g".formatted(quantizer, n, i, x[i]);
                            assertEquals(absmax, result.absmax[i / blockSize], place);
                            float level = nearest(levels, x[i] * (1 / absmax));
                            assertEquals(level * absmax + 0f, result.y[i] + 0f, place);
                        }
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void devicesAgreeInBitsInAllTypes(String spec) {
        try (Device cpu = Device.open("cpu");
                Device device = TestDevices.open(spec)) {
            float[] x = random(777);
            for (DType dtype : new DType[] {DType.F32, DType.F16, DType.BF16}) {
                for (CodeMap map : CodeMap.values()) {
                    BlockwiseQuantizer quantizer = new BlockwiseQuantizer(map, 128);
                    Result expected = roundTrip(cpu, quantizer, dtype, x);
                    Result actual = roundTrip(device, quantizer, dtype, x);
                    assertArrayEquals(expected.codes, actual.codes, quantizer + " " + dtype);
                    assertArrayEquals(expected.absmax, actual.absmax, quantizer + " " + dtype);
                    assertArrayEquals(expected.y, actual.y, quantizer + " " + dtype);
                }
            }
        }
    }

    @Test
    void codebooksHaveASizeForTheirBits() {
        assertEquals(256, CodeMap.DYNAMIC_SIGNED.codebook().length);
        assertEquals(0f, CodeMap.DYNAMIC_SIGNED.codebook()[127] + 0f); // -0 is 0, too
        assertEquals(16, CodeMap.NF4.codebook().length);
        assertEquals(1f, CodeMap.NF4.codebook()[15]);
        assertEquals(501, new BlockwiseQuantizer(CodeMap.NF4, 64).codeBytes(1001));
        assertEquals(16, new BlockwiseQuantizer(CodeMap.NF4, 64).blocks(1001));
    }

    @Test
    void badArgumentsAreNamed() {
        assertMessage(() -> new BlockwiseQuantizer(CodeMap.NF4, 96), "blockSize is 96");
        assertMessage(() -> new BlockwiseQuantizer(CodeMap.NF4, 8192), "blockSize is 8192");
        BlockwiseQuantizer quantizer = new BlockwiseQuantizer(CodeMap.DYNAMIC_SIGNED, 64);
        try (Device device = Device.open("cpu");
                Device other = Device.open("cpu");
                Stream stream = device.createStream();
                Tensor x = device.allocate(DType.F32, 100);
                Tensor codes = device.allocate(DType.U8, 100);
                Tensor short1 = device.allocate(DType.U8, 99);
                Tensor absmax = device.allocate(DType.F32, 2);
                Tensor elsewhere = other.allocate(DType.F32, 2);
                Tensor within = device.wrapAddress(x.address(), DType.F32, 2)) {
            assertMessage(
                    () -> quantizer.quantize(codes, codes, absmax, stream), "x is Tensor U8[100]");
            assertMessage(() -> quantizer.quantize(x, short1, absmax, stream), "U8[99]", "U8[100]");
            assertMessage(() -> quantizer.quantize(x, codes, x, stream), "absmax", "F32[2]");
            assertMessage(() -> quantizer.quantize(x, codes, elsewhere, stream), "another device");
            assertMessage(() -> quantizer.quantize(x, codes, within, stream), "overlaps absmax");
            assertMessage(
                    () -> quantizer.dequantize(codes, absmax, codes, stream), "y is Tensor U8");
            absmax.close();
            assertThrows(
                    IllegalStateException.class,
                    () -> quantizer.quantize(x, codes, absmax, stream));
        }
    }

    private static void assertMessage(Runnable call, String... parts) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }
}
