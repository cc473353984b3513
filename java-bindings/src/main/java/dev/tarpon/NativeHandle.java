package dev.tarpon;

import dev.tarpon.ffi.tarpon_h;
import dev.tarpon.ffi.tarpon_kv_h;
import dev.tarpon.ffi.tarpon_linear_h;
import dev.tarpon.ffi.tarpon_optim_h;

import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.lang.ref.Cleaner;

/**
 * A native object and the number of calls and children that use it. It is destroyed exactly once:
 * by {@link #close}, or, if it is in use then, when the last user lets go. After {@code close}
 * there are no new users.
 *
 * <p>A handle does not refer to the Java object that owns it, so that a {@link Cleaner} may close
 * it once the owner is unreachable. A call that uses the handle has acquired it, so that the
 * cleaner cannot come too early either.
 */
abstract class NativeHandle implements AutoCloseable, Runnable {
    private static final Cleaner CLEANER = Cleaner.create();
    private static final int CLOSED = Integer.MIN_VALUE;
    private static final VarHandle STATE;

    static {
        try {
            STATE = MethodHandles.lookup().findVarHandle(NativeHandle.class, "state", int.class);
        } catch (ReflectiveOperationException exception) {
            throw new ExceptionInInitializerError(exception);
        }
    }

    private final String name;
    private final long address;
    private Cleaner.Cleanable cleanable;

    // The number of users, plus CLOSED once closed.
    private volatile int state;

    /** Takes over the native object at {@code address}; {@code name} is for messages. */
    NativeHandle(String name, long address) {
        this.name = name;
        this.address = address;
    }

    /** Frees the native object. Runs once, in the thread of the last user. */
    abstract void destroy();

    /** Closes this handle some time after {@code owner} has become unreachable. */
    final void closeWith(Object owner) {
        cleanable = CLEANER.register(owner, this);
    }

    /** Registers one more user, who must {@link #release}, unless the handle is closed. */
    final boolean tryAcquire() {
        int users;
        do {
            users = state;
            if (users < 0) {
                return false;
            }
        } while (!STATE.compareAndSet(this, users, users + 1));
        return true;
    }

    /** As {@link #tryAcquire}, with an exception if the handle is closed; returns the address. */
    final long acquire() {
        if (!tryAcquire()) {
            throw closed();
        }
        return address;
    }

    /** Registers one more user on behalf of one that is registered already. */
    final void retain() {
        STATE.getAndAdd(this, 1);
    }

    final void release() {
        int usersBefore = (int) STATE.getAndAdd(this, -1);
        if (usersBefore - 1 == CLOSED) {
            destroy();
        }
    }

    final boolean isClosed() {
        return state < 0;
    }

    final IllegalStateException closed() {
        return new IllegalStateException(name + " is closed");
    }

    /** The address, for a thread that has made sure that the native object is there. */
    final long address() {
        return address;
    }

    /** The native object, for cold calls of a user and for {@link #destroy}. */
    final MemorySegment pointer() {
        return MemorySegment.ofAddress(address);
    }

    /** Closes the handle. Idempotent and thread-safe; does not wait for those who acquired it. */
    @Override
    public void close() {
        int usersBefore = (int) STATE.getAndBitwiseOr(this, CLOSED);
        if (usersBefore < 0) {
            return;
        }
        if (usersBefore == 0) {
            destroy();
        }
        if (cleanable != null) {
            cleanable.clean(); // deregisters; the close() that it calls finds the handle closed
        }
    }

    /** What the cleaner calls. */
    @Override
    public final void run() {
        close();
    }

    @Override
    public final String toString() {
        return name;
    }

    /** Memory that is not Tarpon's to free. */
    static final class Foreign extends NativeHandle {
        Foreign(String name, long address) {
            super(name, address);
        }

        @Override
        void destroy() {}
    }

    /** Part of a device: keeps the device alive, and is closed when the device is. */
    abstract static class Child extends NativeHandle {
        final DeviceHandle device;

        /** The caller has acquired {@code device}, and hands the new child to its adopt(). */
        Child(DeviceHandle device, String name, long address) {
            super(name, address);
            this.device = device;
        }

        abstract void destroyNative();

        @Override
        final void destroy() {
            try {
                destroyNative();
            } finally {
                device.forget(this);
            }
        }
    }

    /** Device memory. */
    static final class Buffer extends Child {
        Buffer(DeviceHandle device, String name, long address) {
            super(device, name, address);
        }

        @Override
        void destroyNative() {
            device.awaitStreams();
            tarpon_h.tarpon_buffer_destroy(pointer());
        }
    }

    /** A linear plan. */
    static final class Linear extends Child {
        Linear(DeviceHandle device, String name, long address) {
            super(device, name, address);
        }

        @Override
        void destroyNative() {
            device.awaitStreams();
            tarpon_linear_h.tarpon_linear_destroy(pointer());
        }
    }

    /** An optimizer plan. */
    static final class Optim extends Child {
        Optim(DeviceHandle device, String name, long address) {
            super(device, name, address);
        }

        @Override
        void destroyNative() {
            device.awaitStreams();
            tarpon_optim_h.tarpon_optim_destroy(pointer());
        }
    }

    /** The plan of a KV cache. */
    static final class Kv extends Child {
        Kv(DeviceHandle device, String name, long address) {
            super(device, name, address);
        }

        @Override
        void destroyNative() {
            device.awaitStreams();
            tarpon_kv_h.tarpon_kv_destroy(pointer());
        }
    }
}
