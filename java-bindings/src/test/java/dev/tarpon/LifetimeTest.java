package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;

/** Closing: idempotent, from any thread, of parents and children, during calls, and by the GC. */
class LifetimeTest {
    private static final LinearCase LAYER = LinearCase.random(4, 128, 64, 128, DType.F16, 7);

    private static void assertClosed(String name, Executable call) {
        IllegalStateException exception = assertThrows(IllegalStateException.class, call);
        assertEquals(name + " is closed", exception.getMessage());
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void closedObjectsSayTheirNames(String spec) {
        try (Device device = TestDevices.open(spec);
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, LAYER.weights, DType.F16);
                Tensor x = device.allocate(DType.F16, 4, 128).copyFrom(LAYER.x);
                Tensor y = device.allocate(DType.F16, 4, 64)) {
            String on = " on " + device.info().spec();
            Tensor closedX = device.allocate(DType.F16, 4, 128);
            Tensor closedY = device.allocate(DType.F16, 4, 64);
            Stream closedStream = device.createStream();
            QuantizedLinear closedLinear = QuantizedLinear.create(device, LAYER.weights, DType.F16);
            for (AutoCloseable closeable : List.of(closedX, closedY, closedStream, closedLinear)) {
                closeTwice(closeable);
            }
            assertClosed("Tensor F16[4, 128]" + on, () -> linear.forward(closedX, y, stream));
            assertClosed("Tensor F16[4, 64]" + on, () -> linear.forward(x, closedY, stream));
            assertClosed("Stream" + on, () -> linear.forward(x, y, closedStream));
            assertClosed(
                    "QuantizedLinear [128, 64]" + on, () -> closedLinear.forward(x, y, stream));
            assertClosed("QuantizedLinear [128, 64]" + on, () -> closedLinear.workspaceBytes(1));
            assertClosed("Tensor F16[4, 128]" + on, closedX::address);
            assertClosed("Tensor F16[4, 128]" + on, closedX::toFloatArray);
            assertClosed("Tensor F16[4, 128]" + on, () -> closedX.copyFrom(LAYER.x));
            assertClosed("Stream" + on, closedStream::synchronize);
            assertClosed("Stream" + on, closedStream::nativeHandle);
            assertClosed("Stream" + on, () -> closedStream.reserveWorkspace(1));
            linear.forward(x, y, stream); // the open ones are none the worse
        }
    }

    private static void closeTwice(AutoCloseable closeable) {
        try {
            closeable.close();
            closeable.close();
        } catch (Exception exception) {
            fail(exception);
        }
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void closingADeviceClosesWhatWasMadeFromIt(String spec) {
        Device device = TestDevices.open(spec);
        Stream stream = device.createStream();
        QuantizedLinear linear = QuantizedLinear.create(device, LAYER.weights, DType.F16);
        Tensor x = device.allocate(DType.F16, 4, 128).copyFrom(LAYER.x);
        Tensor y = device.allocate(DType.F16, 4, 64);
        Tensor foreign = device.wrapAddress(x.address(), DType.F16, 4, 128);
        linear.forward(x, y, stream);
        device.close();
        device.close();
        assertEquals(0, device.handle().childCount());
        String name = device.info().spec();
        assertClosed("QuantizedLinear [128, 64] on " + name, () -> linear.workspaceBytes(1));
        assertClosed("Stream on " + name, stream::synchronize);
        assertThrows(IllegalStateException.class, x::address);
        assertThrows(IllegalStateException.class, () -> linear.forward(x, y, stream));
        assertClosed("Device " + name, foreign::address);
        assertClosed("Device " + name, () -> device.allocate(DType.F16, 1));
        assertClosed("Device " + name, device::createStream);
        assertClosed("Device " + name, () -> device.wrapStream(0));
        assertClosed(
                "Device " + name, () -> QuantizedLinear.create(device, LAYER.weights, DType.F16));
        // Children that are closed after their device are none the worse.
        closeTwice(linear);
        closeTwice(stream);
        closeTwice(x);
        closeTwice(y);
        assertEquals(LAYER.in, linear.inFeatures());
    }

    /**
     * A native object must not be freed under a call: this crashes, or trips a sanitizer, if so.
     */
    @Test
    void closingWhileOthersRun() throws Exception {
        for (int round = 0; round < 50; round++) {
            try (Device device = Device.open("cpu");
                    ExecutorService threads = Executors.newFixedThreadPool(3)) {
                QuantizedLinear linear = QuantizedLinear.create(device, LAYER.weights, DType.F16);
                Tensor x = device.allocate(DType.F16, 4, 128).copyFrom(LAYER.x);
                AtomicLong runs = new AtomicLong();
                List<Future<?>> users = new ArrayList<>();
                for (int thread = 0; thread < 3; thread++) {
                    Stream stream = device.createStream();
                    Tensor y = device.allocate(DType.F16, 4, 64);
                    users.add(threads.submit(() -> runUntilClosed(linear, x, y, stream, runs)));
                }
                while (runs.get() < 10) {
                    Thread.onSpinWait();
                }
                switch (round % 3) {
                    case 0 -> linear.close();
                    case 1 -> x.close();
                    default -> device.close();
                }
                for (Future<?> user : users) {
                    user.get();
                }
                device.close();
                assertEquals(0, device.handle().childCount());
            }
        }
    }

    private static void runUntilClosed(
            QuantizedLinear linear, Tensor x, Tensor y, Stream stream, AtomicLong runs) {
        try {
            while (true) {
                linear.forward(x, y, stream);
                runs.incrementAndGet();
            }
        } catch (IllegalStateException closed) {
            assertTrue(closed.getMessage().endsWith("is closed"), closed::getMessage);
        }
    }

    @Test
    void unreachableObjectsAreFreedByTheCollector() throws InterruptedException {
        try (Device device = Device.open("cpu")) {
            int before = device.handle().childCount();
            leak(device);
            assertTrue(device.handle().childCount() > before);
            for (int i = 0; i < 200 && device.handle().childCount() > before; i++) {
                System.gc();
                Thread.sleep(10);
            }
            assertEquals(before, device.handle().childCount());
        }
    }

    private static void leak(Device device) {
        for (int i = 0; i < 20; i++) {
            device.allocate(DType.F32, 1024);
            device.createStream();
        }
        QuantizedLinear.create(device, LAYER.weights, DType.F16);
    }

    @Test
    void closedArenaIsSeen() {
        try (Device device = Device.open("cpu");
                Stream stream = device.createStream();
                QuantizedLinear linear = QuantizedLinear.create(device, LAYER.weights, DType.F16);
                Tensor y = device.allocate(DType.F16, 4, 64)) {
            Tensor x;
            MemorySegment segment;
            try (Arena arena = Arena.ofConfined()) {
                segment = arena.allocate(4 * 128 * 2, 2);
                x = device.wrap(segment, DType.F16, 4, 128);
                linear.forward(x, y, stream);
            }
            IllegalStateException exception =
                    assertThrows(IllegalStateException.class, () -> linear.forward(x, y, stream));
            assertEquals(
                    "Tensor F16[4, 128] on cpu:0 is over a memory segment whose arena is closed",
                    exception.getMessage());
            assertThrows(
                    IllegalStateException.class, () -> device.wrap(segment, DType.F16, 4, 128));
            Tensor owned = device.allocate(DType.F16, 4, 128);
            assertThrows(IllegalStateException.class, () -> owned.copyFrom(segment));
            assertThrows(IllegalStateException.class, () -> owned.copyTo(segment));
        }
    }

    @Test
    void confinedSegmentIsUsedByItsThreadOnly() throws Exception {
        try (Device device = Device.open("cpu");
                Arena arena = Arena.ofConfined();
                ExecutorService other = Executors.newSingleThreadExecutor()) {
            Tensor x = device.wrap(arena.allocate(256, 2), DType.F16, 128);
            other.submit(() -> assertThrows(WrongThreadException.class, x::address)).get();
        }
    }
}
