package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * Elements of one type in the memory of a device, row-major and contiguous.
 *
 * <p>A copy that names no stream is queued behind the last run or copy that used this tensor, so
 * that it sees what that has written; behind runs on further streams it is not. All copies are
 * complete when they return.
 *
 * <p>The object itself is thread-safe; its elements are not: a thread must not write them while
 * another reads or writes them.
 */
public final class Tensor implements AutoCloseable {
    private final Device device;
    private final TensorShape shape;
    private final long rows;
    private final long columns;
    private final long address;
    private final NativeHandle handle;
    private final MemorySegment segment;

    // Orders copies only, between threads that are ordered already; so a plain field will do.
    private Stream lastStream;

    /**
     * A tensor whose memory {@code handle} frees, or nobody.
     *
     * @param segment the wrapped host memory, or null
     */
    Tensor(
            Device device,
            TensorShape shape,
            long address,
            NativeHandle handle,
            MemorySegment segment) {
        this.device = device;
        this.shape = shape;
        this.rows = shape.rows();
        this.columns = shape.columns();
        this.address = address;
        this.handle = handle;
        this.segment = segment;
    }

    public Device device() {
        return device;
    }

    public DType dtype() {
        return shape.dtype();
    }

    /** The dimensions, outermost first; a copy. */
    public long[] shape() {
        return shape.dimensions();
    }

    /** The number of elements. */
    public long size() {
        return shape.size();
    }

    public long sizeBytes() {
        return shape.sizeBytes();
    }

    /** The address of the first element in device memory. */
    public long address() {
        acquire();
        release();
        return address;
    }

    /** Copies host memory of exactly {@link #sizeBytes} bytes, native or on the Java heap. */
    public Tensor copyFrom(MemorySegment host) {
        return copyFrom(host, orderingStream());
    }

    /** As {@link #copyFrom(MemorySegment)}, in the order of a stream. */
    public Tensor copyFrom(MemorySegment host, Stream stream) {
        checkCopy(host, stream);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment source = HostMemory.nativeCopy(host, arena);
            transfer(
                    stream,
                    (nativeDevice, elements, nativeStream) ->
                            tarpon_h.tarpon_copy_to_device(
                                    nativeDevice, elements, source, sizeBytes(), nativeStream));
        }
        return this;
    }

    /**
     * Converts {@link #size} floats to the dtype, to nearest with ties to even, and copies them.
     *
     * @throws IllegalArgumentException if the dtype is not F32, F16 or BF16
     */
    public Tensor copyFrom(float[] host) {
        Objects.requireNonNull(host, "host");
        if (host.length != size()) {
            throw new IllegalArgumentException(
                    "%s has %d elements; the array has %d".formatted(this, size(), host.length));
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment staging = arena.allocate(sizeBytes(), dtype().bytes());
            HostMemory.encode(host, dtype(), staging);
            return copyFrom(staging);
        }
    }

    /** Copies to host memory of exactly {@link #sizeBytes} bytes, native or on the Java heap. */
    public void copyTo(MemorySegment host) {
        copyTo(host, orderingStream());
    }

    /** As {@link #copyTo(MemorySegment)}, in the order of a stream. */
    public void copyTo(MemorySegment host, Stream stream) {
        checkCopy(host, stream);
        if (host.isReadOnly()) {
            throw new IllegalArgumentException("the host segment is read-only");
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = host.isNative() ? host : arena.allocate(sizeBytes(), Long.BYTES);
            transfer(
                    stream,
                    (nativeDevice, elements, nativeStream) ->
                            tarpon_h.tarpon_copy_to_host(
                                    nativeDevice, target, elements, sizeBytes(), nativeStream));
            if (target != host) {
                host.copyFrom(target);
            }
        }
    }

    /**
     * A copy of the elements as floats, exactly.
     *
     * @throws IllegalArgumentException if the dtype is not F32, F16 or BF16
     */
    public float[] toFloatArray() {
        float[] values = new float[HostMemory.arrayLength(toString(), size())];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment staging = arena.allocate(sizeBytes(), dtype().bytes());
            copyTo(staging);
            HostMemory.decode(staging, dtype(), values);
        }
        return values;
    }

    /** A native copy in one direction; returns its status. */
    private interface Transfer {
        int run(MemorySegment device, MemorySegment elements, MemorySegment stream);
    }

    private void transfer(Stream stream, Transfer transfer) {
        stream.handle().acquire();
        try {
            acquire();
            try {
                TarponException.check(
                        transfer.run(
                                device.handle().pointer(),
                                MemorySegment.ofAddress(address),
                                stream.handle().pointer()));
                usedOn(stream);
            } finally {
                release();
            }
        } finally {
            stream.handle().release();
        }
    }

    private void checkCopy(MemorySegment host, Stream stream) {
        Objects.requireNonNull(host, "host");
        Objects.requireNonNull(stream, "stream");
        if (!host.scope().isAlive()) {
            throw new IllegalStateException("the arena of the host segment is closed");
        }
        HostMemory.requireSize(toString(), host, sizeBytes());
        if (stream.device() != device) {
            throw new IllegalArgumentException(
                    "%s and %s are of different devices".formatted(this, stream));
        }
    }

    private Stream orderingStream() {
        Stream last = lastStream;
        // Closing a stream waits for its work, so behind a closed one there is nothing to wait for.
        return last == null || last.handle().isClosed() ? device.defaultStream() : last;
    }

    /** The last dimension. */
    long columns() {
        return columns;
    }

    /** The product of all dimensions but the last. */
    long rows() {
        return rows;
    }

    /** Keeps the memory alive until {@link #release}; returns its address. */
    long acquire() {
        if (segment != null) {
            requireAccess();
        }
        if (device.handle().isClosed()) {
            throw device.handle().closed();
        }
        handle.acquire();
        return address;
    }

    void release() {
        handle.release();
        Reference.reachabilityFence(segment); // an automatic arena frees it with the segment
    }

    void usedOn(Stream stream) {
        lastStream = stream;
    }

    private void requireAccess() {
        if (!segment.scope().isAlive()) {
            throw new IllegalStateException(
                    this + " is over a memory segment whose arena is closed");
        }
        if (!segment.isAccessibleBy(Thread.currentThread())) {
            throw new WrongThreadException(
                    "%s is over a memory segment that is confined to another thread than %s"
                            .formatted(this, Thread.currentThread()));
        }
    }

    /** Frees the memory if the tensor owns it, after work that is queued. Idempotent. */
    @Override
    public void close() {
        handle.close();
    }

    /** Such as "Tensor F16[16, 4096] on cpu:0". */
    @Override
    public String toString() {
        return handle.toString();
    }
}
