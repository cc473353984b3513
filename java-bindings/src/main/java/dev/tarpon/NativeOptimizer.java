package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import dev.tarpon.ffi.tarpon_optim_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * A native optimizer with the tensors whose addresses it has: what {@code dev.tarpon.optim} needs
 * of this package's handles. Internal to Tarpon; programs use {@code dev.tarpon.optim.Optimizer}.
 *
 * <p>Thread-safe: steps are queued one after the other. A step on another stream than the one
 * before waits for that one first, since steps of a plan must not overlap.
 */
public final class NativeOptimizer implements AutoCloseable {
    private final Device device;
    private final NativeHandle.Optim handle;
    private final Tensor[] tensors;
    private Stream lastStream;

    private NativeOptimizer(Device device, NativeHandle.Optim handle, Tensor[] tensors) {
        this.device = device;
        this.handle = handle;
        this.tensors = tensors;
        this.lastStream = device.defaultStream();
        handle.closeWith(this);
    }

    /**
     * Makes the plan.
     *
     * @param description a {@code tarpon_optim_desc}
     * @param tensors all tensors whose addresses are in the description; they stay the caller's
     */
    public static NativeOptimizer create(
            Device device, String name, MemorySegment description, Tensor... tensors) {
        Tensor[] operands = tensors.clone();
        DeviceHandle deviceHandle = device.handle();
        deviceHandle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            Operands.acquire(operands);
            try {
                MemorySegment out = arena.allocate(C_POINTER);
                TarponException.check(
                        tarpon_optim_h.tarpon_optim_create(
                                deviceHandle.pointer(), description, out));
                long plan = out.get(C_POINTER, 0).address();
                return new NativeOptimizer(
                        device,
                        deviceHandle.adopt(new NativeHandle.Optim(deviceHandle, name, plan)),
                        operands);
            } finally {
                Operands.release(operands);
            }
        } finally {
            deviceHandle.release();
        }
    }

    /** Fills a {@code tarpon_optim_step_args} with the defaults of a rule. */
    public static void readDefaults(int rule, MemorySegment args) {
        TarponException.check(tarpon_optim_h.tarpon_optim_default_args(rule, args));
    }

    /** Stores what a slot of states takes; see {@code tarpon_optim_state_bytes}. */
    public static void readStateBytes(
            int rule,
            int format,
            int flags,
            long n,
            int slot,
            MemorySegment stateBytes,
            MemorySegment absmaxBytes) {
        TarponException.check(
                tarpon_optim_h.tarpon_optim_state_bytes(
                        rule, format, flags, n, slot, stateBytes, absmaxBytes));
    }

    /** Queues a step; {@code args} is a {@code tarpon_optim_step_args}. */
    public void step(MemorySegment args, Stream stream) {
        queue(tarpon_optim_h::tarpon_optim_step, args, stream);
    }

    /** Queues Sophia-G's refresh of its Hessian estimate. */
    public void refreshHessian(MemorySegment args, Stream stream) {
        queue(tarpon_optim_h::tarpon_optim_refresh_hessian, args, stream);
    }

    /** Fills a {@code tarpon_optim_counters} after the work that is queued. */
    public synchronized void readCounters(MemorySegment counters) {
        counters(tarpon_optim_h::tarpon_optim_get_counters, counters);
    }

    /** Puts the counters back, behind the work that is queued. */
    public synchronized void writeCounters(MemorySegment counters) {
        counters(tarpon_optim_h::tarpon_optim_set_counters, counters);
    }

    /** Fills a {@code tarpon_optim_info}. */
    public void readInfo(MemorySegment info) {
        handle.acquire();
        try {
            TarponException.check(tarpon_optim_h.tarpon_optim_get_info(handle.pointer(), info));
        } finally {
            handle.release();
        }
    }

    private interface Queued {
        int run(long plan, long args, long stream);
    }

    private interface CountersCall {
        int run(MemorySegment plan, MemorySegment counters, MemorySegment stream);
    }

    private synchronized void queue(Queued call, MemorySegment args, Stream stream) {
        Objects.requireNonNull(stream, "stream");
        if (stream.device() != device) {
            throw new IllegalArgumentException(
                    "%s and %s are of different devices".formatted(stream, this));
        }
        long plan = handle.acquire();
        try {
            Operands.acquire(tensors);
            try {
                // Closing a stream waits for its work, so behind a closed one there is none.
                if (stream != lastStream && !lastStream.handle().isClosed()) {
                    lastStream.synchronize();
                }
                StreamHandle streamHandle = stream.handle();
                synchronized (streamHandle) {
                    long nativeStream = streamHandle.requireOpen();
                    TarponException.check(call.run(plan, args.address(), nativeStream));
                }
                lastStream = stream;
                Operands.usedOn(stream, tensors);
            } finally {
                Operands.release(tensors);
            }
        } finally {
            Reference.reachabilityFence(args); // the call has only its address
            handle.release();
        }
    }

    private void counters(CountersCall call, MemorySegment counters) {
        handle.acquire();
        try {
            StreamHandle streamHandle =
                    lastStream.handle().isClosed()
                            ? device.defaultStream().handle()
                            : lastStream.handle();
            streamHandle.acquire();
            try {
                TarponException.check(call.run(handle.pointer(), counters, streamHandle.pointer()));
            } finally {
                streamHandle.release();
            }
        } finally {
            handle.release();
        }
    }

    /** Frees the plan, after work that is queued; the tensors are the caller's. Idempotent. */
    @Override
    public void close() {
        handle.close();
    }

    @Override
    public String toString() {
        return handle.toString();
    }
}
