package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import dev.tarpon.ffi.tarpon_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A native stream and the workspace of the runs that are queued on it. Runs of one stream follow
 * one another, so they share one workspace. Whoever queues a run holds this object's monitor from
 * {@link #requireOpen} until the run is queued; that keeps the stream alive as {@link #acquire}
 * does, at no further cost, since {@link #destroyNative} takes the monitor, too.
 */
final class StreamHandle extends NativeHandle.Child {
    private MemorySegment buffer = MemorySegment.NULL;
    private long workspace;
    private long workspaceBytes;

    StreamHandle(DeviceHandle device, String name, long address) {
        super(device, name, address);
    }

    /** The address of the stream; for a thread that holds the monitor. */
    long requireOpen() {
        if (isClosed()) {
            throw closed();
        }
        return address();
    }

    /** The address of at least {@code bytes} bytes; 0 if none were ever needed. */
    long workspace(long bytes) {
        if (bytes > workspaceBytes) {
            grow(bytes);
        }
        return workspace;
    }

    long workspaceBytes() {
        return workspaceBytes;
    }

    private void grow(long bytes) {
        // Queued runs may still be using the old workspace.
        TarponException.check(tarpon_h.tarpon_stream_synchronize(pointer()));
        freeWorkspace();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(tarpon_h.tarpon_buffer_create(device.pointer(), bytes, out));
            buffer = out.get(C_POINTER, 0);
        }
        workspace = tarpon_h.tarpon_buffer_address(buffer).address();
        workspaceBytes = bytes;
    }

    private void freeWorkspace() {
        tarpon_h.tarpon_buffer_destroy(buffer);
        buffer = MemorySegment.NULL;
        workspace = 0;
        workspaceBytes = 0;
    }

    @Override
    synchronized void destroyNative() {
        // A failure of queued work has no one left to hear it; see DeviceHandle.awaitStreams().
        tarpon_h.tarpon_stream_synchronize(pointer());
        freeWorkspace();
        tarpon_h.tarpon_stream_destroy(pointer());
    }
}
