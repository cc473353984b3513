package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import dev.tarpon.ffi.tarpon_kv_attend_args;
import dev.tarpon.ffi.tarpon_kv_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * The native plan of a KV cache: what {@code dev.tarpon.kv} needs of this package's handles.
 * Internal to Tarpon; programs use {@code dev.tarpon.kv.KvCache}.
 *
 * <p>Thread-safe; the argument structs and operand arrays of a call are its caller's alone.
 */
public final class NativeKvCache implements AutoCloseable {
    private final Device device;
    private final NativeHandle.Kv handle;

    private NativeKvCache(Device device, NativeHandle.Kv handle) {
        this.device = device;
        this.handle = handle;
        handle.closeWith(this);
    }

    /**
     * Makes the plan.
     *
     * @param description a {@code tarpon_kv_desc}
     * @param calibration a {@code tarpon_kv_calibration}, or NULL
     */
    public static NativeKvCache create(
            Device device, String name, MemorySegment description, MemorySegment calibration) {
        DeviceHandle deviceHandle = device.handle();
        deviceHandle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(
                    tarpon_kv_h.tarpon_kv_create(
                            deviceHandle.pointer(), description, calibration, out));
            long plan = out.get(C_POINTER, 0).address();
            return new NativeKvCache(
                    device, deviceHandle.adopt(new NativeHandle.Kv(deviceHandle, name, plan)));
        } finally {
            deviceHandle.release();
        }
    }

    /** Fills a {@code tarpon_kv_info}. */
    public void readInfo(MemorySegment info) {
        handle.acquire();
        try {
            TarponException.check(tarpon_kv_h.tarpon_kv_get_info(handle.pointer(), info));
        } finally {
            handle.release();
        }
    }

    /** What attend needs. */
    public long workspaceBytes(long batch, int queries, long maxLength) {
        handle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_LONG);
            TarponException.check(
                    tarpon_kv_h.tarpon_kv_workspace_bytes(
                            handle.pointer(), batch, queries, maxLength, out));
            return out.get(C_LONG, 0);
        } finally {
            handle.release();
        }
    }

    /** Queues an append; {@code operands} are the tensors whose addresses {@code args} has. */
    public void append(MemorySegment args, Tensor[] operands, Stream stream) {
        queue(tarpon_kv_h::tarpon_kv_append, args, operands, 0, stream);
    }

    /** As {@link #append}; the workspace in {@code args} is set here, to the stream's. */
    public void attend(MemorySegment args, Tensor[] operands, long workspaceBytes, Stream stream) {
        queue(tarpon_kv_h::tarpon_kv_attend, args, operands, workspaceBytes, stream);
    }

    /** As {@link #append}. */
    public void dequantize(MemorySegment args, Tensor[] operands, Stream stream) {
        queue(tarpon_kv_h::tarpon_kv_dequantize, args, operands, 0, stream);
    }

    private interface Queued {
        int run(long plan, long args, long stream);
    }

    private void queue(
            Queued call,
            MemorySegment args,
            Tensor[] operands,
            long workspaceBytes,
            Stream stream) {
        Objects.requireNonNull(stream, "stream");
        if (stream.device() != device) {
            throw new IllegalArgumentException(
                    "%s and %s are of different devices".formatted(stream, this));
        }
        long plan = handle.acquire();
        try {
            Operands.acquire(operands);
            try {
                StreamHandle streamHandle = stream.handle();
                synchronized (streamHandle) {
                    long nativeStream = streamHandle.requireOpen();
                    if (workspaceBytes > 0) {
                        long workspace = streamHandle.workspace(workspaceBytes);
                        tarpon_kv_attend_args.workspace(args, workspace);
                        tarpon_kv_attend_args.workspace_bytes(args, streamHandle.workspaceBytes());
                    }
                    TarponException.check(call.run(plan, args.address(), nativeStream));
                }
                Operands.usedOn(stream, operands);
            } finally {
                Operands.release(operands);
            }
        } finally {
            Reference.reachabilityFence(args); // the call has only its address
            handle.release();
        }
    }

    /** Frees the plan, after work that is queued; pages are the caller's. Idempotent. */
    @Override
    public void close() {
        handle.close();
    }

    @Override
    public String toString() {
        return handle.toString();
    }
}
