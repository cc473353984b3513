package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** A native device and what was made from it. The device is destroyed after its last child. */
final class DeviceHandle extends NativeHandle {
    // Queued work may use memory and plans after the call that queued it; not so on the CPU.
    private final boolean asynchronous;
    private final Set<Child> children = ConcurrentHashMap.newKeySet();

    DeviceHandle(DeviceInfo info, long address) {
        super("Device " + info.spec(), address);
        this.asynchronous = info.kind() != DeviceKind.CPU;
    }

    /**
     * Makes a new child part of this device, which the caller has acquired.
     *
     * @throws IllegalStateException if the device was closed meanwhile; the child is closed then
     */
    <T extends Child> T adopt(T child) {
        retain();
        children.add(child);
        // close() marks the device before it visits the children: one of the two sees the other.
        if (isClosed()) {
            child.close();
            throw closed();
        }
        return child;
    }

    void forget(Child child) {
        children.remove(child);
        release();
    }

    /** How many parts of this device have not been destroyed. */
    int childCount() {
        return children.size();
    }

    /**
     * Waits for all work queued on open streams, as the C ABI asks before memory or a plan is
     * freed. A failure is left to the stream's owner: errors of CUDA kernels stay until they are
     * reported by the next call on the device, and freeing must go on regardless.
     */
    void awaitStreams() {
        if (!asynchronous) {
            return;
        }
        for (Child child : children) {
            if (child instanceof StreamHandle stream && stream.tryAcquire()) {
                try {
                    tarpon_h.tarpon_stream_synchronize(stream.pointer());
                } finally {
                    stream.release();
                }
            }
        }
    }

    @Override
    public void close() {
        super.close();
        for (Child child : children) {
            child.close();
        }
    }

    @Override
    void destroy() {
        tarpon_h.tarpon_device_close(pointer());
    }
}
