package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Wrong arguments: an exception of the right kind, with the values, and no crash. */
class BadInputTest {
    private final LinearCase layer = LinearCase.random(2, 200, 96, 128, DType.F16, 11);
    private Arena arena;
    private Device device;
    private Stream stream;
    private QuantizedLinear linear;
    private Tensor x;
    private Tensor y;

    @BeforeEach
    void open() {
        arena = Arena.ofConfined();
        device = Device.open("cpu");
        stream = device.createStream();
        linear = QuantizedLinear.create(device, layer.weights, DType.F16);
        x = device.allocate(DType.F16, 2, 200);
        y = device.allocate(DType.F16, 2, 96);
    }

    @AfterEach
    void close() {
        device.close();
        arena.close();
    }

    private static void assertMessage(
            Class<? extends Exception> type, Executable call, String... parts) {
        String message = assertThrows(type, call).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }

    private static void assertIllegal(Executable call, String... parts) {
        assertMessage(IllegalArgumentException.class, call, parts);
    }

    private static void assertNull(String name, Executable call) {
        assertEquals(name, assertThrows(NullPointerException.class, call).getMessage());
    }

    private static void assertStatus(Status status, Executable call, String... parts) {
        assertEquals(status, assertThrows(TarponException.class, call).status());
        assertMessage(TarponException.class, call, parts);
    }

    @Test
    void nullsAreNamed() {
        MemorySegment segment = arena.allocate(64);
        assertNull("kind", () -> Device.open(null, 0));
        assertNull("options", () -> Device.open(DeviceKind.CPU, 0, null));
        assertNull("spec", () -> Device.open(null));
        assertNull("dtype", () -> device.allocate(null, 1));
        assertNull("shape", () -> device.allocate(DType.F16, (long[]) null));
        assertNull("segment", () -> device.wrap(null, DType.F16, 1));
        assertNull("host", () -> x.copyFrom((MemorySegment) null));
        assertNull("host", () -> x.copyFrom((float[]) null));
        assertNull("host", () -> x.copyTo(null));
        assertNull("stream", () -> x.copyTo(segment, null));
        assertNull("device", () -> QuantizedLinear.create(null, layer.weights, DType.F16));
        assertNull("weights", () -> QuantizedLinear.create(device, null, DType.F16));
        assertNull(
                "activationDtype",
                () -> QuantizedLinear.create(device, layer.weights, (DType) null));
        assertNull("x", () -> linear.forward(null, y, stream));
        assertNull("y", () -> linear.forward(x, null, stream));
        assertNull("stream", () -> linear.forward(x, y, null));
        assertNull("weight", () -> QuantizedWeights.quantize(null, DType.F32, 1, 1, -1));
        assertNull("dtype", () -> QuantizedWeights.quantize(segment, null, 1, 1, -1));
        assertNull("codes", () -> QuantizedWeights.of(null, segment, 1, 1, -1));
        assertNull("scales", () -> QuantizedWeights.of(segment, null, 1, 1, -1));
        assertNull("qweight", () -> QuantizedWeights.fromMarlin(null, segment, 1, 1, -1));
    }

    @Test
    void devicesThatAreNotThere() {
        assertIllegal(() -> Device.open("gpu"), "\"gpu\"", "cpu, sim, cuda");
        assertIllegal(() -> Device.open("cuda:x"), "\"cuda:x\"");
        assertIllegal(() -> Device.open("cuda:0:0"), "\"cuda:0:0\"");
        assertIllegal(() -> Device.open(""), "\"\"");
        assertStatus(Status.DEVICE_UNAVAILABLE, () -> Device.open("cpu:1"), "cpu:1");
        assertStatus(Status.DEVICE_UNAVAILABLE, () -> Device.open(DeviceKind.CPU, -1), "-1");
        assertIllegal(() -> new DeviceOptions(-2), "-2");
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> Device.open(DeviceKind.CPU, 0, new DeviceOptions(1 << 30)),
                String.valueOf(1 << 30));
    }

    @Test
    void shapes() {
        assertIllegal(() -> device.allocate(DType.F16), "at least one dimension");
        assertIllegal(() -> device.allocate(DType.F16, 3, 0), "[3, 0]");
        assertIllegal(() -> device.allocate(DType.F16, -3), "[-3]");
        assertIllegal(() -> device.allocate(DType.F32, 1L << 61, 2), "[2305843009213693952, 2]");
        assertIllegal(() -> device.allocate(DType.F32, 1L << 40, 1L << 40), "1099511627776");
        assertStatus(Status.OUT_OF_MEMORY, () -> device.allocate(DType.U8, 1L << 60));
    }

    @Test
    void segments() {
        MemorySegment segment = arena.allocate(64, 8);
        assertIllegal(
                () -> device.wrap(segment, DType.F16, 5, 7), "F16[5, 7]", "70 bytes", "has 64");
        assertIllegal(() -> device.wrap(segment.asSlice(1, 8), DType.F16, 4), "aligned", "2 bytes");
        assertIllegal(() -> device.wrap(segment.asSlice(2, 8), DType.F32, 2), "aligned", "4 bytes");
        assertIllegal(
                () -> device.wrap(MemorySegment.ofArray(new byte[4]), DType.U8, 4), "Java heap");
        assertIllegal(() -> device.wrap(segment.asReadOnly(), DType.F16, 32), "read-only");
        assertIllegal(() -> device.wrap(MemorySegment.NULL, DType.U8, 1), "U8[1]");
        assertIllegal(() -> device.wrapAddress(0, DType.U8, 1), "NULL");
        assertIllegal(() -> device.wrapAddress(4098, DType.F32, 1), "0x1002", "4 bytes");
        assertIllegal(() -> x.copyFrom(segment), "F16[2, 200]", "800 bytes", "has 64");
        assertIllegal(() -> x.copyTo(segment), "800 bytes", "has 64");
        assertIllegal(() -> x.copyFrom(new float[399]), "400 elements", "399");
        MemorySegment readOnly = arena.allocate(800).asReadOnly();
        assertIllegal(() -> x.copyTo(readOnly), "read-only");
        Tensor integers = device.allocate(DType.I32, 2);
        assertIllegal(() -> integers.copyFrom(new float[2]), "I32");
        assertIllegal(integers::toFloatArray, "I32");
        assertStatus(Status.INVALID_ARGUMENT, () -> device.wrapStream(8));
    }

    @Test
    void forwardArguments() {
        Tensor wrongColumns = device.allocate(DType.F16, 2, 199);
        Tensor oneRow = device.allocate(DType.F16, 1, 96);
        Tensor wrongType = device.allocate(DType.BF16, 2, 200);
        assertIllegal(
                () -> linear.forward(wrongColumns, y, stream), "x is", "F16[2, 199]", "[200, 96]");
        assertIllegal(() -> linear.forward(x, x, stream), "y is", "F16[2, 200]");
        assertIllegal(() -> linear.forward(x, oneRow, stream), "rows", "F16[2, 200]", "F16[1, 96]");
        assertIllegal(() -> linear.forward(x, y, 3, stream), "m = 3", "F16[2, 200]");
        assertIllegal(() -> linear.forward(x, y, -1, stream), "m is -1");
        assertIllegal(() -> linear.forward(wrongType, y, stream), "BF16[2, 200]", "takes F16");
        assertStatus(Status.INVALID_ARGUMENT, () -> linear.workspaceBytes(-1), "-1");
        assertIllegal(() -> stream.reserveWorkspace(-1), "-1");
        try (Device second = Device.open("cpu");
                Stream secondStream = second.createStream()) {
            Tensor foreign = second.allocate(DType.F16, 2, 200);
            assertIllegal(() -> linear.forward(foreign, y, stream), "another device");
            assertIllegal(() -> linear.forward(x, y, secondStream), "different devices");
            assertIllegal(() -> x.copyFrom(arena.allocate(800), secondStream), "different");
        }
    }

    @Test
    void overlapIsSeen() {
        MemorySegment segment = arena.allocate(800 + 384, 2);
        Tensor over = device.wrap(segment.asSlice(0, 800), DType.F16, 2, 200);
        Tensor inside = device.wrap(segment.asSlice(798, 384), DType.F16, 2, 96);
        assertIllegal(() -> linear.forward(over, inside, stream), "overlaps");
        Tensor behind = device.wrap(segment.asSlice(800, 384), DType.F16, 2, 96);
        linear.forward(over, behind, stream);
        linear.forward(over, inside, 1, stream); // the first row of x ends before
    }

    @Test
    void weights() {
        MemorySegment codes = arena.allocate(200 * 96);
        MemorySegment scales = arena.allocate(2 * 96 * 2, 2);
        assertIllegal(
                () -> QuantizedWeights.of(codes, scales, 96, 300, 128), "U8[300, 96]", "28800");
        assertIllegal(
                () -> QuantizedWeights.of(codes, scales, 96, 200, -1),
                "F16[1, 96]",
                "192 bytes",
                "has 384");
        assertStatus(
                Status.UNSUPPORTED, () -> QuantizedWeights.of(codes, scales, 96, 200, 48), "48");
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedWeights.of(codes, scales, 0, 200, 128),
                "0",
                "200");
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedWeights.of(codes, scales, Long.MAX_VALUE, 200, 128),
                String.valueOf(Long.MAX_VALUE));
        // A lie about the size must not allocate a terabyte before it is seen.
        assertIllegal(
                () -> QuantizedWeights.of(codes, scales, 1 << 20, 1 << 20, 128), "1099511627776");
        for (long place : new long[] {0, 9999, 200 * 96 - 1}) {
            codes.set(ValueLayout.JAVA_BYTE, place, (byte) 16);
            assertIllegal(
                    () -> QuantizedWeights.of(codes, scales, 96, 200, 128),
                    "codes[%d, %d] is 16".formatted(place / 96, place % 96));
            codes.set(ValueLayout.JAVA_BYTE, place, (byte) 15);
        }
        scales.setAtIndex(ValueLayout.JAVA_SHORT, 97, HalfFloats.toFloat16(Float.NaN));
        assertIllegal(
                () -> QuantizedWeights.of(codes, scales, 96, 200, 128),
                "scales[1, 1] is not finite");
        assertIllegal(
                () -> QuantizedWeights.fromMarlin(codes, scales, 96, 200, 128), "MARLIN qweight");
    }

    @Test
    void weightsThatCannotBeQuantised() {
        MemorySegment weight = arena.allocate(ValueLayout.JAVA_FLOAT, 64 * 64);
        assertIllegal(
                () -> QuantizedWeights.quantize(weight, DType.F16, 64, 64, -1),
                "F16[64, 64]",
                "8192 bytes",
                "has 16384");
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedWeights.quantize(weight, DType.I32, 64, 64, -1),
                "I32");
        weight.setAtIndex(ValueLayout.JAVA_FLOAT, 3 * 64 + 5, Float.NaN);
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedWeights.quantize(weight, DType.F32, 64, 64, -1),
                "weight[3, 5]",
                "not finite");
        weight.setAtIndex(ValueLayout.JAVA_FLOAT, 3 * 64 + 5, 1e9f);
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedWeights.quantize(weight, DType.F32, 64, 64, -1),
                "weight[3, ",
                "1e+09",
                "binary16");
    }

    @Test
    void linearsThatNoKernelServes() {
        assertStatus(
                Status.INVALID_ARGUMENT,
                () ->
                        QuantizedLinear.create(
                                device, layer.weights, new LinearOptions(DType.F16, "no_such")),
                "\"no_such\"",
                "cpu_scalar");
        assertStatus(
                Status.INVALID_ARGUMENT,
                () -> QuantizedLinear.create(device, layer.weights, DType.U8),
                "U8");
    }
}
