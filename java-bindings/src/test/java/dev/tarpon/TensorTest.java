package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;

/** Memory of devices: sizes, copies both ways, conversions, and memory of others. */
class TensorTest {
    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void bytesSurviveARoundTrip(String spec) {
        byte[] bytes = new byte[3 * 5 * 7 * 4];
        new Random(1).nextBytes(bytes);
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                Arena arena = Arena.ofConfined()) {
            for (DType dtype : DType.values()) {
                int elems = bytes.length / dtype.bytes();
                try (Tensor tensor = device.allocate(dtype, elems / 7, 7)) {
                    assertArrayEquals(new long[] {elems / 7, 7}, tensor.shape());
                    assertEquals(elems, tensor.size());
                    assertEquals(bytes.length, tensor.sizeBytes());
                    assertEquals(0, tensor.address() % 256);
                    tensor.copyFrom(MemorySegment.ofArray(bytes));
                    byte[] onHeap = new byte[bytes.length];
                    tensor.copyTo(MemorySegment.ofArray(onHeap), stream);
                    assertArrayEquals(bytes, onHeap);
                    // An odd address: copies ask for no alignment.
                    MemorySegment odd = arena.allocate(bytes.length + 1).asSlice(1);
                    tensor.copyTo(odd);
                    assertArrayEquals(bytes, odd.toArray(ValueLayout.JAVA_BYTE));
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void floatsAreRoundedToNearestEven(String spec) {
        // The middle between two binary16 and between two bfloat16, below and above an even one.
        float[] values = {
            0, -0f, 1, 1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1p-8f, 1 + 0x3p-8f, 65504, -2.5e-5f, 1e-8f
        };
        try (Device device = TestDevices.open(spec)) {
            for (DType dtype : new DType[] {DType.F32, DType.F16, DType.BF16}) {
                float[] expected = new float[values.length];
                for (int i = 0; i < values.length; i++) {
                    expected[i] = LinearCase.round(values[i], dtype);
                }
                try (Tensor tensor = device.allocate(dtype, values.length)) {
                    assertArrayEquals(expected, tensor.copyFrom(values).toFloatArray());
                }
            }
        }
    }

    @Test
    void wrappedMemoryIsShared() {
        try (Device device = Device.open("cpu");
                Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1, 2, 3, 4, 5, 6);
            try (Tensor tensor = device.wrap(segment, DType.F32, 2, 3)) {
                assertEquals(segment.address(), tensor.address());
                segment.setAtIndex(ValueLayout.JAVA_FLOAT, 4, 50);
                assertArrayEquals(new float[] {1, 2, 3, 4, 50, 6}, tensor.toFloatArray());
                tensor.copyFrom(new float[] {6, 5, 4, 3, 2, 1});
            }
            assertEquals(6, segment.get(ValueLayout.JAVA_FLOAT, 0));
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void foreignDeviceMemoryIsUsedAsItIs(String spec) {
        try (Device device = TestDevices.open(spec);
                Tensor owner = device.allocate(DType.F32, 6)) {
            owner.copyFrom(new float[] {1, 2, 3, 4, 5, 6});
            try (Tensor view = device.wrapAddress(owner.address() + 8, DType.F32, 2, 2)) {
                assertArrayEquals(new float[] {3, 4, 5, 6}, view.toFloatArray());
            }
            assertEquals(1, owner.toFloatArray()[0]); // closing the view has freed nothing
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void hostMemoryIsWrappedOnTheCpuOnly(String spec) {
        try (Device device = TestDevices.open(spec);
                Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(16, 4);
            if (device.info().kind() == DeviceKind.CPU) {
                device.wrap(segment, DType.F32, 4).close();
            } else {
                assertThrows(
                        UnsupportedOperationException.class,
                        () -> device.wrap(segment, DType.F32, 4));
            }
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void streamsAreCreatedWrappedAndSynchronised(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream created = device.createStream();
                Stream wrapped = device.wrapStream(0)) {
            created.synchronize();
            created.reserveWorkspace(1 << 16);
            created.reserveWorkspace(1 << 20);
            wrapped.synchronize();
            assertEquals(device, wrapped.device());
        }
    }
}
