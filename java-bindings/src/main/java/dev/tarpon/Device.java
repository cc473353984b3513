package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import dev.tarpon.ffi.tarpon_device_info;
import dev.tarpon.ffi.tarpon_device_options;
import dev.tarpon.ffi.tarpon_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * A device that runs operations, and the maker of everything that lives on it.
 *
 * <p>Thread-safe. {@link #close} closes everything made from the device, too; objects of two
 * devices, even of two that were opened with the same specification, do not work together.
 */
public final class Device implements AutoCloseable {
    private final DeviceHandle handle;
    private final DeviceInfo info;
    private final Stream defaultStream;

    private Device(DeviceHandle handle, DeviceInfo info) {
        this.handle = handle;
        this.info = info;
        this.defaultStream = new Stream(this, wrapNativeStream(0, "Default stream"));
        handle.closeWith(this);
    }

    /**
     * Opens a device with its default options.
     *
     * @throws TarponException with status DEVICE_UNAVAILABLE if it is not there, saying why
     */
    public static Device open(DeviceKind kind, int ordinal) {
        return open(kind, ordinal, DeviceOptions.DEFAULT);
    }

    /**
     * Opens a device. On the CPU the kernels are chosen for the best instruction set of the
     * processor; the environment variable TARPON_CPU_ISA forces another.
     *
     * @throws TarponException with status DEVICE_UNAVAILABLE if it is not there, saying why
     */
    public static Device open(DeviceKind kind, int ordinal, DeviceOptions options) {
        Objects.requireNonNull(kind, "kind");
        Objects.requireNonNull(options, "options");
        Tarpon.requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment nativeOptions = tarpon_device_options.allocate(arena);
            tarpon_device_options.thread_count(nativeOptions, options.threadCount());
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(
                    tarpon_h.tarpon_device_open(kind.id(), ordinal, nativeOptions, out));
            MemorySegment device = out.get(C_POINTER, 0);
            DeviceHandle handle = null;
            try {
                DeviceInfo info = readInfo(device, arena);
                handle = new DeviceHandle(info, device.address());
                return new Device(handle, info);
            } catch (RuntimeException exception) {
                if (handle == null) {
                    tarpon_h.tarpon_device_close(device);
                } else {
                    handle.close();
                }
                throw exception;
            }
        }
    }

    /**
     * Opens a device by its specification: a kind and perhaps an ordinal, such as "cpu", "sim",
     * "cuda" or "cuda:1".
     */
    public static Device open(String spec) {
        Objects.requireNonNull(spec, "spec");
        String[] parts = spec.split(":", -1);
        for (DeviceKind kind : DeviceKind.values()) {
            if (kind.toString().equals(parts[0])) {
                if (parts.length == 1) {
                    return open(kind, 0);
                }
                if (parts.length == 2 && parts[1].matches("[0-9]{1,9}")) {
                    return open(kind, Integer.parseInt(parts[1]));
                }
            }
        }
        String kinds =
                Arrays.stream(DeviceKind.values())
                        .map(DeviceKind::toString)
                        .collect(Collectors.joining(", "));
        throw new IllegalArgumentException(
                "device \"%s\" is not one of %s, with or without an ordinal as in cuda:1"
                        .formatted(spec, kinds));
    }

    private static DeviceInfo readInfo(MemorySegment device, Arena arena) {
        MemorySegment info = tarpon_device_info.allocate(arena);
        TarponException.check(tarpon_h.tarpon_device_get_info(device, info));
        return new DeviceInfo(
                DeviceKind.of(tarpon_device_info.kind(info)),
                tarpon_device_info.ordinal(info),
                tarpon_device_info.name(info),
                tarpon_device_info.isa(info),
                tarpon_device_info.compute_capability(info),
                tarpon_device_info.processor_count(info),
                tarpon_device_info.memory_bytes(info));
    }

    /** What the device is; also after it was closed. */
    public DeviceInfo info() {
        return info;
    }

    /**
     * Allocates a tensor in device memory, aligned to 256 bytes; its contents are undefined.
     *
     * @param shape at least one dimension, each at least 1
     * @throws TarponException with status OUT_OF_MEMORY if that fails
     */
    public Tensor allocate(DType dtype, long... shape) {
        TensorShape checked = new TensorShape(dtype, shape);
        handle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(
                    tarpon_h.tarpon_buffer_create(handle.pointer(), checked.sizeBytes(), out));
            MemorySegment buffer = out.get(C_POINTER, 0);
            NativeHandle.Buffer owned =
                    handle.adopt(
                            new NativeHandle.Buffer(handle, tensorName(checked), buffer.address()));
            long address = tarpon_h.tarpon_buffer_address(buffer).address();
            Tensor tensor = new Tensor(this, checked, address, owned, null);
            owned.closeWith(tensor);
            return tensor;
        } finally {
            handle.release();
        }
    }

    /**
     * A tensor over host memory, without a copy; only on a CPU device. The segment stays the
     * caller's. It is kept reachable by the tensor, but its arena must not be closed while a call
     * that uses the tensor is under way in another thread.
     *
     * @param segment native memory of exactly the size that dtype and shape ask for, aligned to the
     *     element size
     * @throws UnsupportedOperationException on another device
     */
    public Tensor wrap(MemorySegment segment, DType dtype, long... shape) {
        Objects.requireNonNull(segment, "segment");
        TensorShape checked = new TensorShape(dtype, shape);
        if (info.kind() != DeviceKind.CPU) {
            throw new UnsupportedOperationException(
                    "%s cannot use host memory; use allocate(...).copyFrom(segment)"
                            .formatted(handle));
        }
        if (!segment.isNative()) {
            throw new IllegalArgumentException(
                    "the segment is on the Java heap, where native code cannot use it; allocate it"
                            + " from an Arena");
        }
        if (segment.isReadOnly()) {
            throw new IllegalArgumentException("the segment is read-only");
        }
        if (segment.byteSize() != checked.sizeBytes()) {
            throw new IllegalArgumentException(
                    "a tensor %s takes %d bytes; the segment has %d"
                            .formatted(checked, checked.sizeBytes(), segment.byteSize()));
        }
        return wrapMemory(segment.address(), segment, checked);
    }

    /**
     * A tensor over memory of this device that is not Tarpon's: another library's tensor, or on the
     * CPU any host memory. The memory stays its owner's and must outlive the tensor; that it is of
     * this device and large enough is the caller's promise, which Tarpon cannot check.
     *
     * @param deviceAddress aligned to the element size
     */
    public Tensor wrapAddress(long deviceAddress, DType dtype, long... shape) {
        return wrapMemory(deviceAddress, null, new TensorShape(dtype, shape));
    }

    private Tensor wrapMemory(long address, MemorySegment segment, TensorShape shape) {
        if (address == 0) {
            throw new IllegalArgumentException("the address is NULL");
        }
        if (address % shape.dtype().bytes() != 0) {
            throw new IllegalArgumentException(
                    "address 0x%x is not aligned to the %d bytes of a %s"
                            .formatted(address, shape.dtype().bytes(), shape.dtype()));
        }
        NativeHandle borrowed = new NativeHandle.Foreign(tensorName(shape), address);
        Tensor tensor = new Tensor(this, shape, address, borrowed, segment);
        tensor.acquire(); // the device and the arena must be open
        tensor.release();
        return tensor;
    }

    private String tensorName(TensorShape shape) {
        return "Tensor %s on %s".formatted(shape, info.spec());
    }

    /**
     * Creates a stream. Work on different streams may overlap on a GPU; on the CPU a run has
     * finished when the call returns.
     */
    public Stream createStream() {
        handle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(tarpon_h.tarpon_stream_create(handle.pointer(), out));
            return ownedStream(adoptStream(out, "Stream"));
        } finally {
            handle.release();
        }
    }

    /**
     * A stream over a CUstream (cudaStream_t) of another library, which stays its owner's and must
     * outlive the result. 0 is CUDA's default stream, and the only value on the CPU.
     */
    public Stream wrapStream(long cuStream) {
        return ownedStream(wrapNativeStream(cuStream, "Stream"));
    }

    private Stream ownedStream(StreamHandle streamHandle) {
        Stream stream = new Stream(this, streamHandle);
        streamHandle.closeWith(stream);
        return stream;
    }

    private StreamHandle wrapNativeStream(long cuStream, String name) {
        handle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(
                    tarpon_h.tarpon_stream_wrap(
                            handle.pointer(), MemorySegment.ofAddress(cuStream), out));
            return adoptStream(out, name);
        } finally {
            handle.release();
        }
    }

    private StreamHandle adoptStream(MemorySegment out, String name) {
        long address = out.get(C_POINTER, 0).address();
        return handle.adopt(new StreamHandle(handle, name + " on " + info.spec(), address));
    }

    DeviceHandle handle() {
        return handle;
    }

    /** The stream of copies that name none. */
    Stream defaultStream() {
        return defaultStream;
    }

    /**
     * Closes the device and everything made from it. Idempotent; a call that another thread has
     * under way completes, and the native device is freed after it.
     */
    @Override
    public void close() {
        handle.close();
    }

    /** Such as "Device cuda:0". */
    @Override
    public String toString() {
        return handle.toString();
    }
}
