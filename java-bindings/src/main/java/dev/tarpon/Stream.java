package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

/**
 * An ordered queue of work on a device, with the workspace that its runs need.
 *
 * <p>The workspace belongs to the stream. A {@link QuantizedLinear#forward forward} that needs a
 * larger one first waits for the stream and replaces it, before it queues its run; so the largest
 * run comes first, or {@link #reserveWorkspace} does, in a program that must not wait or that
 * captures a CUDA graph.
 *
 * <p>Thread-safe: calls from several threads are queued one after the other. Threads that shall run
 * at the same time use a stream each.
 */
public final class Stream implements AutoCloseable {
    private final Device device;
    private final StreamHandle handle;

    Stream(Device device, StreamHandle handle) {
        this.device = device;
        this.handle = handle;
    }

    public Device device() {
        return device;
    }

    /** The {@code tarpon_stream*} of the C ABI, for other users of libtarpon in this process. */
    public long nativeHandle() {
        if (handle.isClosed()) {
            throw handle.closed();
        }
        return handle.pointer().address();
    }

    /**
     * Waits until all work queued here is done.
     *
     * @throws TarponException if any of it failed
     */
    public void synchronize() {
        handle.acquire();
        try {
            TarponException.check(tarpon_h.tarpon_stream_synchronize(handle.pointer()));
        } finally {
            handle.release();
        }
    }

    /**
     * Makes the workspace at least {@code bytes} large, the greatest {@link
     * QuantizedLinear#workspaceBytes} of the runs to come. It never shrinks.
     */
    public void reserveWorkspace(long bytes) {
        if (bytes < 0) {
            throw new IllegalArgumentException("bytes is %d; it must be >= 0".formatted(bytes));
        }
        synchronized (handle) {
            handle.requireOpen();
            handle.workspace(bytes);
        }
    }

    StreamHandle handle() {
        return handle;
    }

    /** Waits for the queued work, then frees the stream and its workspace. Idempotent. */
    @Override
    public void close() {
        handle.close();
    }

    /** Such as "Stream on cuda:0". */
    @Override
    public String toString() {
        return handle.toString();
    }
}
