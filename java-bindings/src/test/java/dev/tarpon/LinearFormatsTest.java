package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/**
 * Weights of every format through the Java API, on every device, against a binary64 product of what
 * {@link QuantizedWeights#dequantize} says; with bias, residual, act-order, several parts and the
 * deterministic mode. A format that a device does not serve is skipped with its name.
 */
class LinearFormatsTest {
    private static final int ROWS = 5;
    private static final int IN = 200;
    private static final int OUT = 72;

    private static List<WeightFormat> formats() {
        List<WeightFormat> formats = new ArrayList<>();
        for (WeightType type : WeightType.values()) {
            for (ZeroType zero : ZeroType.values()) {
                if (type != WeightType.FP8_E4M3 || zero == ZeroType.SYMMETRIC) {
                    formats.add(new WeightFormat(type, zero, DType.F16, 64));
                    formats.add(new WeightFormat(type, zero, DType.BF16, -1));
                    formats.add(new WeightFormat(type, zero, DType.F32, 32));
                }
            }
        }
        return formats;
    }

    private static float[] gaussian(int length, long seed) {
        Random random = new Random(seed);
        float[] values = new float[length];
        for (int i = 0; i < length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static QuantizedWeights quantize(WeightFormat format, int out, long seed) {
        MemorySegment weight = MemorySegment.ofArray(gaussian(out * IN, seed));
        return QuantizedWeights.quantize(weight, DType.F32, out, IN, format);
    }

    private static float[] rounded(float[] values, DType dtype) {
        float[] result = values.clone();
        for (int i = 0; i < result.length; i++) {
            result[i] = LinearCase.round(result[i], dtype);
        }
        return result;
    }

    /** A device, a stream, and what it did not serve. */
    private static final class Bench implements AutoCloseable {
        final Device device;
        final Stream stream;
        final List<String> unserved = new ArrayList<>();
        int served;

        Bench(String spec) {
            device = TestDevices.open(spec);
            stream = device.createStream();
        }

        List<DType> dtypes() {
            return device.info().kind() == DeviceKind.CPU
                    ? List.of(DType.F32, DType.F16, DType.BF16)
                    : List.of(DType.F16, DType.BF16);
        }

        /** Null, and noted, if the device says that it has no kernel. */
        QuantizedLinear create(String name, List<LinearPart> parts, LinearOptions options) {
            try {
                QuantizedLinear linear = QuantizedLinear.create(device, parts, options);
                served++;
                return linear;
            } catch (TarponException refusal) {
                assertEquals(Status.UNSUPPORTED, refusal.status(), refusal::getMessage);
                unserved.add(name);
                return null;
            }
        }

        float[] run(QuantizedLinear linear, float[] x, float[] residual, boolean inPlace) {
            DType dtype = linear.activationDtype();
            int rows = x.length / IN;
            try (Tensor input = device.allocate(dtype, rows, IN).copyFrom(x);
                    Tensor y = device.allocate(dtype, rows, linear.outFeatures());
                    Tensor added = device.allocate(dtype, rows, linear.outFeatures())) {
                if (residual == null) {
                    linear.forward(input, y, stream);
                } else if (inPlace) {
                    y.copyFrom(residual);
                    linear.forward(input, y, y, stream);
                } else {
                    added.copyFrom(residual);
                    linear.forward(input, added, y, stream);
                }
                return y.toFloatArray();
            }
        }

        @Override
        public void close() {
            stream.close();
            device.close();
        }

        void skipUnserved() {
            Assumptions.assumeTrue(
                    unserved.isEmpty(),
                    () -> "%d passed; not served: %s".formatted(served, unserved));
        }
    }

    /** Within one rounding of the dtype and 2^-20 of the sum of magnitudes. */
    private static void check(String name, float[] y, float[] x, float[] w, DType dtype) {
        int out = w.length / IN;
        for (int m = 0; m < x.length / IN; m++) {
            for (int n = 0; n < out; n++) {
                double want = 0;
                double magnitude = 0;
                for (int k = 0; k < IN; k++) {
                    double product = (double) x[m * IN + k] * w[k * out + n];
                    want += product;
                    magnitude += Math.abs(product);
                }
                // FLOAT weights may be summed in two parts of some times their size.
                double bound =
                        LinearCase.unitRoundoff(dtype) * Math.abs(want)
                                + 8 * 0x1p-20 * magnitude
                                + 0x1p-25;
                assertEquals(want, y[m * out + n], bound, name + " y[" + m + ", " + n + "]");
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void everyFormat(String spec) {
        try (Bench bench = new Bench(spec)) {
            for (WeightFormat format : formats()) {
                QuantizedWeights weights = quantize(format, OUT, 1);
                for (DType dtype : bench.dtypes()) {
                    String name = format + " " + dtype;
                    float[] x = rounded(gaussian(ROWS * IN, 2), dtype);
                    List<LinearPart> parts = List.of(new LinearPart(weights));
                    try (QuantizedLinear linear =
                            bench.create(name, parts, new LinearOptions(dtype))) {
                        if (linear != null) {
                            float[] y = bench.run(linear, x, null, false);
                            check(name, y, x, weights.dequantize(), dtype);
                        }
                    }
                }
            }
            bench.skipUnserved();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void biasAndResidual(String spec) {
        try (Bench bench = new Bench(spec)) {
            for (WeightFormat format : formats()) {
                QuantizedWeights weights = quantize(format, OUT, 3);
                float[] bias = gaussian(OUT, 4);
                List<LinearPart> parts = List.of(new LinearPart(weights, bias));
                for (DType dtype : bench.dtypes()) {
                    String name = format + " " + dtype + " with bias";
                    try (QuantizedLinear linear =
                            bench.create(name, parts, new LinearOptions(dtype))) {
                        if (linear != null) {
                            checkBiasAndResidual(bench, linear, weights, bias, name);
                        }
                    }
                }
            }
            bench.skipUnserved();
        }
    }

    private static void checkBiasAndResidual(
            Bench bench,
            QuantizedLinear linear,
            QuantizedWeights weights,
            float[] bias,
            String name) {
        DType dtype = linear.activationDtype();
        float[] x = rounded(gaussian(ROWS * IN, 5), dtype);
        float[] residual = rounded(gaussian(ROWS * OUT, 6), dtype);
        float[] y = bench.run(linear, x, residual, false);
        assertArrayEquals(y, bench.run(linear, x, residual, true), name + ": y as the residual");
        float[] w = weights.dequantize();
        for (int m = 0; m < ROWS; m++) {
            for (int n = 0; n < OUT; n++) {
                double want = LinearCase.round(bias[n], dtype) + (double) residual[m * OUT + n];
                for (int k = 0; k < IN; k++) {
                    want += (double) x[m * IN + k] * w[k * OUT + n];
                }
                double bound = LinearCase.unitRoundoff(dtype) * Math.abs(want) + 1e-3;
                assertEquals(want, y[m * OUT + n], bound, name + " y[" + m + ", " + n + "]");
            }
        }
    }

    /** Three layers as one plan against each alone: close, since a kernel may cut the sums anew. */
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void severalParts(String spec) {
        try (Bench bench = new Bench(spec)) {
            for (WeightFormat format :
                    List.of(
                            WeightFormat.marlin(128),
                            new WeightFormat(WeightType.INT4, ZeroType.FLOAT, DType.F32, 32))) {
                int[] outs = {64, 1, 40};
                List<LinearPart> parts = new ArrayList<>();
                for (int i = 0; i < outs.length; i++) {
                    parts.add(new LinearPart(quantize(format, outs[i], 10 + i)));
                }
                for (DType dtype : bench.dtypes()) {
                    String name = format + " " + dtype + " fused";
                    float[] x = rounded(gaussian(ROWS * IN, 13), dtype);
                    try (QuantizedLinear linear =
                            bench.create(name, parts, new LinearOptions(dtype))) {
                        if (linear == null) {
                            continue;
                        }
                        assertEquals(105, linear.outFeatures());
                        float[] y = bench.run(linear, x, null, false);
                        int column = 0;
                        for (LinearPart part : parts) {
                            int out = (int) part.weights().outFeatures();
                            float[] own = new float[ROWS * out];
                            for (int m = 0; m < ROWS; m++) {
                                System.arraycopy(y, m * 105 + column, own, m * out, out);
                            }
                            check(name, own, x, part.weights().dequantize(), dtype);
                            column += out;
                        }
                    }
                }
            }
            bench.skipUnserved();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void actOrder(String spec) {
        WeightFormat format = new WeightFormat(WeightType.INT4, ZeroType.INTEGER, DType.F16, 64);
        QuantizedWeights plain = quantize(format, OUT, 20);
        int[] groups = new int[IN]; // 64, 64, 64 and 8 inputs, shuffled
        for (int k = 0; k < IN; k++) {
            groups[k * 37 % IN] = k / 64;
        }
        QuantizedWeights weights =
                QuantizedWeights.of(
                        plain.codes(),
                        plain.scales(),
                        plain.zeros().orElseThrow(),
                        MemorySegment.ofArray(groups),
                        OUT,
                        IN,
                        format);
        try (Bench bench = new Bench(spec)) {
            for (DType dtype : bench.dtypes()) {
                String name = format + " " + dtype + " act-order";
                float[] x = rounded(gaussian(ROWS * IN, 21), dtype);
                List<LinearPart> parts = List.of(new LinearPart(weights));
                try (QuantizedLinear linear = bench.create(name, parts, new LinearOptions(dtype))) {
                    if (linear != null) {
                        float[] y = bench.run(linear, x, null, false);
                        check(name, y, x, weights.dequantize(), dtype);
                    }
                }
            }
            bench.skipUnserved();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void deterministicRowsDoNotDependOnOthers(String spec) {
        QuantizedWeights weights = quantize(WeightFormat.marlin(128), OUT, 30);
        try (Bench bench = new Bench(spec)) {
            for (DType dtype : bench.dtypes()) {
                float[] x = rounded(gaussian(33 * IN, 31), dtype);
                LinearOptions options = new LinearOptions(dtype).withMode(LinearMode.DETERMINISTIC);
                try (QuantizedLinear linear =
                        bench.create(
                                dtype + " deterministic",
                                List.of(new LinearPart(weights)),
                                options)) {
                    if (linear == null) {
                        continue;
                    }
                    float[] y = bench.run(linear, x, null, false);
                    for (int rows : new int[] {1, 8, 17}) {
                        float[] some = Arrays.copyOfRange(x, (33 - rows) * IN, 33 * IN);
                        assertArrayEquals(
                                Arrays.copyOfRange(y, (33 - rows) * OUT, 33 * OUT),
                                bench.run(linear, some, null, false),
                                rows + " rows");
                    }
                }
            }
            bench.skipUnserved();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void sparseWeights(String spec) {
        MemorySegment dense = MemorySegment.ofArray(gaussian(OUT * IN, 40));
        MemorySegment pruned = QuantizedWeights.pruneTwoOfFour(dense, DType.F32, OUT, IN);
        QuantizedWeights weights = QuantizedWeights.quantize(pruned, DType.F32, OUT, IN, 64);
        try (Bench bench = new Bench(spec)) {
            for (DType dtype : bench.dtypes()) {
                float[] x = rounded(gaussian(ROWS * IN, 41), dtype);
                LinearOptions options = new LinearOptions(dtype).withSparsity(Sparsity.TWO_OF_FOUR);
                try (QuantizedLinear linear =
                        bench.create(dtype + " 2:4", List.of(new LinearPart(weights)), options)) {
                    if (linear == null) {
                        continue;
                    }
                    check("2:4", bench.run(linear, x, null, false), x, weights.dequantize(), dtype);
                    QuantizedWeights full =
                            QuantizedWeights.quantize(dense, DType.F32, OUT, IN, 64);
                    String message =
                            assertThrows(
                                            TarponException.class,
                                            () ->
                                                    QuantizedLinear.create(
                                                            bench.device, full, options))
                                    .getMessage();
                    assertTrue(message.contains("2:4"), message);
                }
            }
            bench.skipUnserved();
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void badOperandsAreRefused(String spec) {
        QuantizedWeights weights = quantize(WeightFormat.marlin(128), OUT, 50);
        try (Bench bench = new Bench(spec);
                QuantizedLinear linear = QuantizedLinear.create(bench.device, weights, DType.F16);
                Tensor x = bench.device.allocate(DType.F16, ROWS, IN);
                Tensor y = bench.device.allocate(DType.F16, ROWS, OUT);
                Tensor shifted =
                        bench.device.wrapAddress(y.address() + 2, DType.F16, ROWS - 1, OUT);
                Tensor narrow = bench.device.allocate(DType.F16, ROWS, OUT - 1)) {
            assertThrows(
                    NullPointerException.class, () -> linear.forward(x, null, y, bench.stream));
            assertMessage(() -> linear.forward(x, narrow, y, bench.stream), "residual");
            assertMessage(() -> linear.forward(x, shifted, y, ROWS - 1, bench.stream), "overlaps");
            assertMessage(
                    () ->
                            QuantizedLinear.create(
                                    bench.device, List.of(), new LinearOptions(DType.F16)),
                    "empty");
            List<LinearPart> unlike =
                    List.of(
                            new LinearPart(weights),
                            new LinearPart(quantize(WeightFormat.marlin(64), OUT, 51)));
            assertMessage(
                    () ->
                            QuantizedLinear.create(
                                    bench.device, unlike, new LinearOptions(DType.F16)),
                    "groups of 64");
            assertMessage(() -> new LinearPart(weights, new float[OUT - 1]), "71 elements");
        }
    }

    private static void assertMessage(Runnable call, String part) {
        String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
        assertTrue(message.contains(part), message);
    }
}
