package dev.tarpon;

import static dev.tarpon.ffi.tarpon_h.C_LONG;
import static dev.tarpon.ffi.tarpon_h.C_POINTER;

import dev.tarpon.ffi.tarpon_linear_h;
import dev.tarpon.ffi.tarpon_linear_info;
import dev.tarpon.ffi.tarpon_weights_h;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.List;
import java.util.Objects;

/**
 * A linear layer y = x * W with quantised weights, packed for one device; or several of one input,
 * such as Q, K and V, whose outputs stand side by side in y.
 *
 * <p>Everything that can be decided once is decided by {@link #create}. A {@link #forward} then
 * checks its arguments, makes one native call and allocates nothing on the Java heap.
 *
 * <p>Immutable and thread-safe: any number of threads may run one layer at once, each with its own
 * y and its own stream, since the stream has the workspace.
 */
public final class QuantizedLinear implements AutoCloseable {
    private final Device device;
    private final NativeHandle.Linear handle;
    private final DType activationDtype;
    private final long inFeatures;
    private final long outFeatures;
    private final String variant;
    private final long weightsBytes;

    /** Up to {@code rows} rows need no more than {@code bytes} of workspace. */
    private record WorkspaceBound(long rows, long bytes) {}

    // The largest answer so far: most runs then ask nothing of the library. Replaced as a whole,
    // and
    // threads that replace it at once lose no more than a question.
    private volatile WorkspaceBound workspaceBound = new WorkspaceBound(0, 0);

    private QuantizedLinear(
            Device device,
            NativeHandle.Linear handle,
            DType activationDtype,
            long inFeatures,
            long outFeatures,
            String variant,
            long weightsBytes) {
        this.device = device;
        this.handle = handle;
        this.activationDtype = activationDtype;
        this.inFeatures = inFeatures;
        this.outFeatures = outFeatures;
        this.variant = variant;
        this.weightsBytes = weightsBytes;
        handle.closeWith(this);
    }

    /** A layer with a kernel that the library chooses. */
    public static QuantizedLinear create(
            Device device, QuantizedWeights weights, DType activationDtype) {
        return create(device, weights, new LinearOptions(activationDtype));
    }

    /** One layer without a bias; see {@link #create(Device, List, LinearOptions)}. */
    public static QuantizedLinear create(
            Device device, QuantizedWeights weights, LinearOptions options) {
        Objects.requireNonNull(weights, "weights");
        return create(device, List.of(new LinearPart(weights)), options);
    }

    /**
     * Chooses a kernel, packs the weights for it and copies them to the device. The weights are not
     * referenced afterwards. y has the output features of all parts, in order.
     *
     * @param parts 1 to 64; of one format, and of one order of inputs if they have act-order
     * @throws IllegalArgumentException if the parts differ in what they must share
     * @throws TarponException with status UNSUPPORTED if no kernel serves this layer on this
     *     device; the message lists those that there are
     */
    public static QuantizedLinear create(
            Device device, List<LinearPart> parts, LinearOptions options) {
        Objects.requireNonNull(device, "device");
        Objects.requireNonNull(options, "options");
        List<LinearPart> checked = List.copyOf(parts);
        QuantizedWeights first = requireAlike(checked);
        long outFeatures = checked.stream().mapToLong(p -> p.weights().outFeatures()).sum();
        long inFeatures = first.inFeatures();
        DeviceHandle deviceHandle = device.handle();
        deviceHandle.acquire();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_POINTER);
            TarponException.check(
                    tarpon_linear_h.tarpon_linear_create_fused(
                            deviceHandle.pointer(),
                            LinearStructs.description(
                                    first.format(), outFeatures, inFeatures, options, arena),
                            LinearStructs.parts(checked, options.activationDtype(), arena),
                            checked.size(),
                            out));
            MemorySegment plan = out.get(C_POINTER, 0);
            String name =
                    "QuantizedLinear [%d, %d] on %s"
                            .formatted(inFeatures, outFeatures, device.info().spec());
            NativeHandle.Linear handle =
                    deviceHandle.adopt(new NativeHandle.Linear(deviceHandle, name, plan.address()));
            MemorySegment info = tarpon_linear_info.allocate(arena);
            TarponException.check(tarpon_linear_h.tarpon_linear_get_info(plan, info));
            return new QuantizedLinear(
                    device,
                    handle,
                    options.activationDtype(),
                    inFeatures,
                    outFeatures,
                    tarpon_linear_info.variant(info),
                    tarpon_linear_info.weights_bytes(info));
        } finally {
            Reference.reachabilityFence(checked); // the structs have only their addresses
            deviceHandle.release();
        }
    }

    /**
     * What a GPU would launch for a product of m rows, and why: the tiles and grids that the cost
     * model weighs, cheapest first, with predicted times. No GPU need be there.
     *
     * @param computeCapability 10 * major + minor, such as 80 or 90
     * @param processorCount of its multiprocessors; 0 for those of a product of that architecture
     * @return lines of text
     */
    public static String explain(
            WeightFormat format,
            long m,
            long outFeatures,
            long inFeatures,
            LinearOptions options,
            int computeCapability,
            int processorCount) {
        Objects.requireNonNull(format, "format");
        Objects.requireNonNull(options, "options");
        Tarpon.requireLibrary();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment description =
                    LinearStructs.description(format, outFeatures, inFeatures, options, arena);
            MemorySegment bytes = arena.allocate(C_LONG);
            TarponException.check(
                    tarpon_weights_h.tarpon_linear_explain(
                            description,
                            m,
                            computeCapability,
                            processorCount,
                            MemorySegment.NULL,
                            0,
                            bytes));
            MemorySegment text = arena.allocate(bytes.get(C_LONG, 0));
            TarponException.check(
                    tarpon_weights_h.tarpon_linear_explain(
                            description,
                            m,
                            computeCapability,
                            processorCount,
                            text,
                            text.byteSize(),
                            MemorySegment.NULL));
            return text.getString(0);
        }
    }

    private static QuantizedWeights requireAlike(List<LinearPart> parts) {
        if (parts.isEmpty()) {
            throw new IllegalArgumentException("parts is empty; a layer has 1 to 64");
        }
        QuantizedWeights first = parts.getFirst().weights();
        for (LinearPart part : parts) {
            QuantizedWeights weights = part.weights();
            if (!weights.format().equals(first.format())
                    || weights.inFeatures() != first.inFeatures()) {
                throw new IllegalArgumentException(
                        "parts differ: %s and %s".formatted(first, weights));
            }
        }
        return first;
    }

    /**
     * Queues y = x * W + bias, accumulated in binary32. On the CPU y is complete when this returns;
     * on a GPU after {@link Stream#synchronize}, or in a later copy of y.
     *
     * @param x [m, inFeatures] of the activation dtype; leading dimensions count as rows
     * @param y [m, outFeatures] of the activation dtype; overwritten; must not overlap x
     * @throws IllegalArgumentException if shapes, dtypes or devices disagree, or x and y overlap
     * @throws IllegalStateException if one of the arguments or this layer is closed
     * @throws TarponException if the library reports a failure
     */
    public void forward(Tensor x, Tensor y, Stream stream) {
        Objects.requireNonNull(x, "x");
        Objects.requireNonNull(y, "y");
        if (x.rows() != y.rows()) {
            throw new IllegalArgumentException(
                    "x and y differ in rows: x is %s, y is %s".formatted(x, y));
        }
        forward(x, y, x.rows(), stream);
    }

    /**
     * As {@link #forward(Tensor, Tensor, Stream)}, with the first m rows of x and y; the other rows
     * are not touched. m may be 0.
     */
    public void forward(Tensor x, Tensor y, long m, Stream stream) {
        run(x, null, y, m, stream);
    }

    /**
     * Queues y = x * W + bias + residual, summed in binary32 and rounded once.
     *
     * @param residual [m, outFeatures] of the activation dtype: y itself, or apart from y
     */
    public void forward(Tensor x, Tensor residual, Tensor y, Stream stream) {
        Objects.requireNonNull(x, "x");
        Objects.requireNonNull(residual, "residual");
        Objects.requireNonNull(y, "y");
        if (x.rows() != y.rows() || x.rows() != residual.rows()) {
            throw new IllegalArgumentException(
                    "x, residual and y differ in rows: x is %s, residual is %s, y is %s"
                            .formatted(x, residual, y));
        }
        run(x, residual, y, x.rows(), stream);
    }

    /** As above, with the first m rows of all three. */
    public void forward(Tensor x, Tensor residual, Tensor y, long m, Stream stream) {
        Objects.requireNonNull(residual, "residual");
        run(x, residual, y, m, stream);
    }

    private void run(Tensor x, Tensor residual, Tensor y, long m, Stream stream) {
        if (m < 0) {
            throw new IllegalArgumentException("m is %d; it must be >= 0".formatted(m));
        }
        checkOperand("x", x, m, inFeatures);
        checkOperand("y", y, m, outFeatures);
        if (residual != null) {
            checkOperand("residual", residual, m, outFeatures);
        }
        Objects.requireNonNull(stream, "stream");
        if (stream.device() != device) {
            throw new IllegalArgumentException(
                    "%s and %s are of different devices".formatted(stream, this));
        }
        long plan = handle.acquire();
        try {
            long xAddress = x.acquire();
            try {
                long yAddress = y.acquire();
                try {
                    checkOverlap(x, xAddress, y, yAddress, m);
                    if (residual == null) {
                        queue(plan, xAddress, 0, yAddress, m, stream.handle());
                    } else {
                        addResidual(plan, xAddress, residual, y, yAddress, m, stream);
                    }
                    x.usedOn(stream);
                    y.usedOn(stream);
                } finally {
                    y.release();
                }
            } finally {
                x.release();
            }
        } finally {
            handle.release();
        }
    }

    /** The caller has acquired the plan, x and y. */
    private void addResidual(
            long plan, long x, Tensor residual, Tensor y, long yAddress, long m, Stream stream) {
        long address = residual.acquire();
        try {
            long bytes = m * outFeatures * activationDtype.bytes();
            if (address != yAddress && address < yAddress + bytes && yAddress < address + bytes) {
                throw new IllegalArgumentException(
                        "residual at 0x%x (%s) overlaps y at 0x%x (%s) without being it"
                                .formatted(address, residual, yAddress, y));
            }
            queue(plan, x, address, yAddress, m, stream.handle());
            residual.usedOn(stream);
        } finally {
            residual.release();
        }
    }

    private void queue(long plan, long x, long residual, long y, long m, StreamHandle stream) {
        long bytes = workspaceBoundFor(m);
        synchronized (stream) {
            long nativeStream = stream.requireOpen();
            long workspace = stream.workspace(bytes);
            long available = stream.workspaceBytes();
            TarponException.check(
                    residual == 0
                            ? tarpon_linear_h.tarpon_linear_run(
                                    plan, x, y, m, workspace, available, nativeStream)
                            : tarpon_linear_h.tarpon_linear_run_residual(
                                    plan, x, residual, y, m, workspace, available, nativeStream));
        }
    }

    private void checkOperand(String name, Tensor tensor, long m, long features) {
        Objects.requireNonNull(tensor, name);
        if (tensor.columns() != features || tensor.rows() < m) {
            throw new IllegalArgumentException(
                    "%s is %s; %s with m = %d takes %s[%d, %d]"
                            .formatted(name, tensor, this, m, activationDtype, m, features));
        }
        if (tensor.dtype() != activationDtype) {
            throw new IllegalArgumentException(
                    "%s is %s; %s takes %s".formatted(name, tensor, this, activationDtype));
        }
        if (tensor.device() != device) {
            throw new IllegalArgumentException(
                    "%s is %s, of another device than %s".formatted(name, tensor, this));
        }
    }

    private void checkOverlap(Tensor x, long xAddress, Tensor y, long yAddress, long m) {
        long xBytes = m * inFeatures * activationDtype.bytes();
        long yBytes = m * outFeatures * activationDtype.bytes();
        if (xAddress < yAddress + yBytes && yAddress < xAddress + xBytes) {
            throw new IllegalArgumentException(
                    "x at 0x%x (%s) overlaps y at 0x%x (%s)".formatted(xAddress, x, yAddress, y));
        }
    }

    /** No less than a run with m rows needs; the caller has acquired the plan. */
    private long workspaceBoundFor(long m) {
        WorkspaceBound bound = workspaceBound;
        if (m > bound.rows) {
            bound = new WorkspaceBound(m, queryWorkspaceBytes(m));
            workspaceBound = bound;
        }
        return bound.bytes;
    }

    private long queryWorkspaceBytes(long m) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(C_LONG);
            TarponException.check(
                    tarpon_linear_h.tarpon_linear_workspace_bytes(handle.pointer(), m, out));
            return out.get(C_LONG, 0);
        }
    }

    /**
     * The bytes of workspace that a stream needs for runs with up to m rows; it never shrinks as m
     * grows. See {@link Stream#reserveWorkspace}.
     */
    public long workspaceBytes(long m) {
        handle.acquire();
        try {
            return queryWorkspaceBytes(m);
        } finally {
            handle.release();
        }
    }

    public Device device() {
        return device;
    }

    /** The name of the kernel in use, such as "cpu_avx512". */
    public String variant() {
        return variant;
    }

    /** What the packed weights take on the device, padding included. */
    public long weightsBytes() {
        return weightsBytes;
    }

    /** The type of x and y. */
    public DType activationDtype() {
        return activationDtype;
    }

    public long inFeatures() {
        return inFeatures;
    }

    public long outFeatures() {
        return outFeatures;
    }

    /** Frees the weights on the device, after work that is queued. Idempotent. */
    @Override
    public void close() {
        handle.close();
    }

    /** Such as "QuantizedLinear [4096, 4096] on cpu:0". */
    @Override
    public String toString() {
        return handle.toString();
    }
}
