package dev.tarpon.quant.generate;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Floats that go between Java arrays and a device; on the CPU the two share the memory. */
final class DeviceFloats implements AutoCloseable {
    private final MemorySegment host;
    private final Tensor tensor;
    private final boolean shared;

    DeviceFloats(Device device, int size) {
        host = Arena.ofAuto().allocate((long) size * Float.BYTES, 64);
        shared = device.info().kind() == DeviceKind.CPU;
        tensor =
                shared
                        ? device.wrap(host, DType.F32, size)
                        : device.allocate(DType.F32, size).copyFrom(host);
    }

    Tensor tensor() {
        return tensor;
    }

    /** Sets elements on the host. */
    void put(float[] from, int fromIndex, int toIndex, int count) {
        MemorySegment.copy(
                from, fromIndex, host, ValueLayout.JAVA_FLOAT, (long) toIndex * Float.BYTES, count);
    }

    /** Gets elements from the host. */
    void get(int fromIndex, float[] to, int toIndex, int count) {
        MemorySegment.copy(
                host, ValueLayout.JAVA_FLOAT, (long) fromIndex * Float.BYTES, to, toIndex, count);
    }

    void upload(Stream stream) {
        if (!shared) {
            tensor.copyFrom(host, stream);
        }
    }

    void download(Stream stream) {
        if (shared) {
            stream.synchronize();
        } else {
            tensor.copyTo(host, stream);
        }
    }

    @Override
    public void close() {
        tensor.close();
    }
}
