package dev.tarpon.kv;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.NativeKvCache;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.ffi.tarpon_kv_calibration;
import dev.tarpon.ffi.tarpon_kv_desc;
import dev.tarpon.ffi.tarpon_kv_info;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;

/**
 * The plan of a KV cache: shape, rotary positions and calibration, but no tokens. One plan serves
 * every layer of its shape and calibration.
 *
 * <p>Immutable and thread-safe. Calls are queued on a stream and allocate nothing on the Java heap;
 * one append and any number of attends must not overlap on the same pages.
 */
public final class KvCache implements AutoCloseable {
    /** The most queries of a sequence that one attend takes. */
    public static final int MAX_QUERIES = 8;

    private final Device device;
    private final NativeKvCache plan;
    private final KvCacheOptions options;
    private final int formatVersion;
    private final long pageBytes;
    private final long recentBytes;
    private final double bitsPerValue;
    private final String variant;

    /** Attends up to these sizes need no more than {@code bytes} of workspace. */
    private record WorkspaceBound(long batch, int queries, long length, long bytes) {}

    // The largest answer so far, so that most attends ask nothing of the library.
    private volatile WorkspaceBound workspaceBound = new WorkspaceBound(0, 0, 0, 0);

    private KvCache(Device device, NativeKvCache plan, KvCacheOptions options, MemorySegment info) {
        this.device = device;
        this.plan = plan;
        this.options = options;
        this.formatVersion = tarpon_kv_info.format_version(info);
        this.pageBytes = tarpon_kv_info.page_bytes(info);
        this.recentBytes = tarpon_kv_info.recent_bytes(info);
        this.bitsPerValue = tarpon_kv_info.bits_per_value(info);
        this.variant = tarpon_kv_info.variant(info);
    }

    /** A plan without calibration. */
    public static KvCache create(Device device, KvCacheOptions options) {
        return create(device, options, KvCalibration.NONE);
    }

    /**
     * Makes a plan.
     *
     * @throws IllegalArgumentException if an array of the calibration has another length
     * @throws dev.tarpon.TarponException if the library refuses an option, with its value, or has
     *     no kernel for this device
     */
    public static KvCache create(Device device, KvCacheOptions options, KvCalibration calibration) {
        Objects.requireNonNull(device, "device");
        Objects.requireNonNull(options, "options");
        Objects.requireNonNull(calibration, "calibration");
        try (Arena arena = Arena.ofConfined()) {
            String name =
                    "KvCache K%dV%d [%d, %d] on %s"
                            .formatted(
                                    options.keyBits(),
                                    options.valueBits(),
                                    options.keyValueHeads(),
                                    options.headDim(),
                                    device.info().spec());
            NativeKvCache plan =
                    NativeKvCache.create(
                            device,
                            name,
                            description(options, arena),
                            calibration(options, calibration, arena));
            try {
                MemorySegment info = tarpon_kv_info.allocate(arena);
                plan.readInfo(info);
                return new KvCache(device, plan, options, info);
            } catch (RuntimeException exception) {
                plan.close();
                throw exception;
            }
        }
    }

    private static MemorySegment description(KvCacheOptions options, Arena arena) {
        MemorySegment desc = tarpon_kv_desc.allocate(arena);
        tarpon_kv_desc.mode(desc, options.mode().id());
        tarpon_kv_desc.head_dim(desc, options.headDim());
        tarpon_kv_desc.q_heads(desc, options.queryHeads());
        tarpon_kv_desc.kv_heads(desc, options.keyValueHeads());
        tarpon_kv_desc.page_tokens(desc, options.pageTokens());
        tarpon_kv_desc.k_bits(desc, options.keyBits());
        tarpon_kv_desc.v_bits(desc, options.valueBits());
        tarpon_kv_desc.sink_tokens(desc, options.sinkTokens());
        tarpon_kv_desc.window_tokens(desc, options.windowTokens());
        tarpon_kv_desc.dtype(desc, options.dtype().id());
        tarpon_kv_desc.rope_dim(desc, options.ropeDim());
        tarpon_kv_desc.rope_layout(desc, options.ropeLayout().id());
        tarpon_kv_desc.max_tokens(desc, options.maxTokens());
        tarpon_kv_desc.sliding_window(desc, options.slidingWindow());
        tarpon_kv_desc.rope_theta(desc, options.ropeTheta());
        tarpon_kv_desc.rope_scaling(desc, options.ropeScaling());
        tarpon_kv_desc.score_scale(desc, options.scoreScale());
        tarpon_kv_desc.softcap(desc, options.softcap());
        return desc;
    }

    private static MemorySegment calibration(
            KvCacheOptions options, KvCalibration calibration, Arena arena) {
        MemorySegment struct = tarpon_kv_calibration.allocate(arena);
        tarpon_kv_calibration.norm_eps(struct, calibration.normEpsilon());
        int width = options.keyValueWidth();
        tarpon_kv_calibration.k_mean(
                struct, floats("keyMean", calibration.keyMean(), width, arena));
        tarpon_kv_calibration.q_norm(
                struct, floats("queryNorm", calibration.queryNorm(), options.headDim(), arena));
        tarpon_kv_calibration.k_norm(
                struct, floats("keyNorm", calibration.keyNorm(), options.headDim(), arena));
        if (calibration.keyOrder() != null) {
            requireLength("keyOrder", calibration.keyOrder().length, width);
            tarpon_kv_calibration.k_order(
                    struct, arena.allocateFrom(ValueLayout.JAVA_INT, calibration.keyOrder()));
        }
        return struct;
    }

    private static MemorySegment floats(String name, float[] values, int length, Arena arena) {
        if (values == null) {
            return MemorySegment.NULL;
        }
        requireLength(name, values.length, length);
        return arena.allocateFrom(ValueLayout.JAVA_FLOAT, values);
    }

    private static void requireLength(String name, int length, int expected) {
        if (length != expected) {
            throw new IllegalArgumentException(
                    "%s has %d values; this cache takes %d".formatted(name, length, expected));
        }
    }

    /**
     * Queues the storing of the batch's tokens, of a prompt or of a step: norm, rotary positions,
     * rotation, codes.
     *
     * @param batch what is stored where; uploaded
     * @param pages U8, pages of {@link #pageBytes} bytes each, of one layer
     * @param recent U8, blocks of {@link #recentBytes} bytes; null if that is 0
     * @param k keys before rotary positions [at least batch.tokens(), keyValueHeads, headDim], of
     *     the options' dtype, finite
     * @param v values, as k
     * @throws IllegalArgumentException if shapes, dtypes or devices disagree
     * @throws IllegalStateException if one of the arguments is closed, or the batch not uploaded
     * @throws dev.tarpon.TarponException if the library reports a failure; on the CPU nothing is
     *     written then
     */
    public void append(
            KvBatch batch, Tensor pages, Tensor recent, Tensor k, Tensor v, Stream stream) {
        append(batch, null, pages, recent, k, v, stream);
    }

    /**
     * As {@link #append(KvBatch, Tensor, Tensor, Tensor, Tensor, Stream)}, with sinks wherever they
     * are.
     *
     * @param sinks of this layer, a list for each sequence of the batch; uploaded; null for the
     *     first tokens of each
     */
    public void append(
            KvBatch batch,
            KvSinks sinks,
            Tensor pages,
            Tensor recent,
            Tensor k,
            Tensor v,
            Stream stream) {
        requireMemory(batch, sinks, pages, recent);
        long values = (long) batch.tokens() * options.keyValueWidth();
        requireValues("k", k, options.dtype(), values);
        requireValues("v", v, options.dtype(), values);
        KvArguments arguments = batch.arguments();
        plan.append(
                arguments.append(batch, sinks, pages, pageCount(pages), recent, k, v),
                arguments.operands(batch, sinks, pages, recent, k, v),
                stream);
    }

    /**
     * Queues o = softmax(q . K) V for the last {@code queries} tokens of each sequence, causal.
     * Sequences of length 0, and queries before the start of a sequence, get zeros.
     *
     * @param batch the sequences; uploaded; their lengths include the queries' own tokens
     * @param queries tokens of each sequence, 1..8
     * @param pages as in {@link #append(KvBatch, Tensor, Tensor, Tensor, Tensor, Stream)}
     * @param recent as pages
     * @param q before rotary positions [at least batch.sequences(), queries, queryHeads, headDim]
     * @param o of the same shape; overwritten; not q
     * @throws IllegalArgumentException if shapes, dtypes or devices disagree
     * @throws IllegalStateException if one of the arguments is closed, or the batch not uploaded
     * @throws dev.tarpon.TarponException if the library reports a failure
     */
    public void attend(
            KvBatch batch,
            int queries,
            Tensor pages,
            Tensor recent,
            Tensor q,
            Tensor o,
            Stream stream) {
        attend(batch, queries, null, pages, recent, q, o, stream);
    }

    /**
     * As {@link #attend(KvBatch, int, Tensor, Tensor, Tensor, Tensor, Stream)}, with sinks wherever
     * they are.
     *
     * @param sinks as in {@link #append(KvBatch, KvSinks, Tensor, Tensor, Tensor, Tensor, Stream)}
     */
    public void attend(
            KvBatch batch,
            int queries,
            KvSinks sinks,
            Tensor pages,
            Tensor recent,
            Tensor q,
            Tensor o,
            Stream stream) {
        if (queries < 1 || queries > MAX_QUERIES) {
            throw new IllegalArgumentException(
                    "queries is %d; it must be 1..%d".formatted(queries, MAX_QUERIES));
        }
        requireMemory(batch, sinks, pages, recent);
        long values = (long) batch.sequences() * queries * options.queryWidth();
        requireValues("q", q, options.dtype(), values);
        requireValues("o", o, options.dtype(), values);
        long begin = q.address();
        long end = begin + values * options.dtype().bytes();
        if (begin < o.address() + values * options.dtype().bytes() && o.address() < end) {
            throw new IllegalArgumentException(
                    "q at 0x%x (%s) overlaps o at 0x%x (%s)".formatted(begin, q, o.address(), o));
        }
        KvArguments arguments = batch.arguments();
        plan.attend(
                arguments.attend(batch, queries, sinks, pages, pageCount(pages), recent, q, o),
                arguments.operands(batch, sinks, pages, recent, q, o),
                workspaceBound(batch.sequences(), queries, batch.maxLength()),
                stream);
    }

    /**
     * Queues the reading of the batch's tokens as the model would see them: keys after rotary
     * positions, un-rotated, with the mean put back, and un-rotated values. For inspection.
     *
     * @param batch the tokens; uploaded
     * @param recent null: sinks and window are read from the pages, too
     * @param k F32 [at least batch.tokens(), keyValueHeads, headDim]; overwritten
     * @param v as k
     */
    public void dequantize(
            KvBatch batch, Tensor pages, Tensor recent, Tensor k, Tensor v, Stream stream) {
        dequantize(batch, null, pages, recent, k, v, stream);
    }

    /**
     * As {@link #dequantize(KvBatch, Tensor, Tensor, Tensor, Tensor, Stream)}, with sinks wherever
     * they are.
     *
     * @param sinks as in {@link #append(KvBatch, KvSinks, Tensor, Tensor, Tensor, Tensor, Stream)}
     */
    public void dequantize(
            KvBatch batch,
            KvSinks sinks,
            Tensor pages,
            Tensor recent,
            Tensor k,
            Tensor v,
            Stream stream) {
        requirePages(batch, pages);
        requireSinks(batch, sinks);
        if (recent != null) {
            requireRecent(recent);
        }
        long values = (long) batch.tokens() * options.keyValueWidth();
        requireValues("k", k, DType.F32, values);
        requireValues("v", v, DType.F32, values);
        KvArguments arguments = batch.arguments();
        plan.dequantize(
                arguments.dequantize(batch, sinks, pages, pageCount(pages), recent, k, v),
                arguments.operands(batch, sinks, pages, recent, k, v),
                stream);
    }

    private void requireMemory(KvBatch batch, KvSinks sinks, Tensor pages, Tensor recent) {
        requirePages(batch, pages);
        requireSinks(batch, sinks);
        if (recentBytes == 0) {
            if (recent != null) {
                throw new IllegalArgumentException(
                        "recent is %s; %s keeps no recent tokens, so it must be null"
                                .formatted(recent, this));
            }
            return;
        }
        Objects.requireNonNull(recent, "recent");
        requireRecent(recent);
    }

    private void requireSinks(KvBatch batch, KvSinks sinks) {
        if (sinks != null) {
            sinks.requireUploaded(device, options, batch.sequences());
        }
    }

    private void requirePages(KvBatch batch, Tensor pages) {
        Objects.requireNonNull(batch, "batch");
        batch.requireUploaded(device, options);
        Objects.requireNonNull(pages, "pages");
        requireBlocks("pages", pages, pageBytes);
    }

    private void requireRecent(Tensor recent) {
        requireBlocks("recent", recent, recentBytes);
    }

    private void requireBlocks(String name, Tensor tensor, long blockBytes) {
        requireDevice(name, tensor);
        if (tensor.dtype() != DType.U8 || blockBytes == 0 || tensor.size() % blockBytes != 0) {
            throw new IllegalArgumentException(
                    "%s is %s; %s takes U8 in blocks of %d"
                            .formatted(name, tensor, this, blockBytes));
        }
    }

    private void requireValues(String name, Tensor tensor, DType dtype, long values) {
        Objects.requireNonNull(tensor, name);
        requireDevice(name, tensor);
        if (tensor.dtype() != dtype || tensor.size() < values) {
            throw new IllegalArgumentException(
                    "%s is %s; %s with this batch takes %d values of %s"
                            .formatted(name, tensor, this, values, dtype));
        }
    }

    private void requireDevice(String name, Tensor tensor) {
        if (tensor.device() != device) {
            throw new IllegalArgumentException(
                    "%s is %s, of another device than %s".formatted(name, tensor, this));
        }
    }

    private long pageCount(Tensor pages) {
        return pages.size() / pageBytes;
    }

    /** No less than an attend of this size needs; grows by doubling, as sequences do. */
    private long workspaceBound(long batch, int queries, long length) {
        WorkspaceBound bound = workspaceBound;
        if (batch > bound.batch || queries > bound.queries || length > bound.length) {
            long doubled = Long.highestOneBit(Math.max(1, length - 1)) * 2;
            long atLeast = Math.max(bound.length, Math.min(options.maxTokens(), doubled));
            long mostRows = Math.max(batch, bound.batch);
            int mostQueries = Math.max(queries, bound.queries);
            long mostLength = Math.max(length, atLeast);
            bound =
                    new WorkspaceBound(
                            mostRows,
                            mostQueries,
                            mostLength,
                            plan.workspaceBytes(mostRows, mostQueries, mostLength));
            workspaceBound = bound;
        }
        return bound.bytes;
    }

    /**
     * The workspace that a stream needs for attends up to these sizes; see {@link
     * Stream#reserveWorkspace}.
     */
    public long workspaceBytes(long batch, int queries, long maxLength) {
        return plan.workspaceBytes(batch, queries, maxLength);
    }

    public Device device() {
        return device;
    }

    public KvCacheOptions options() {
        return options;
    }

    /** Of the pages: only pages of equal version, options and calibration can be shared. */
    public int formatVersion() {
        return formatVersion;
    }

    /** Bytes of one page of one layer. */
    public long pageBytes() {
        return pageBytes;
    }

    /** Bytes of one sequence's sinks and window of one layer; 0 for none. */
    public long recentBytes() {
        return recentBytes;
    }

    /** Of the pages, scales and zero points included. */
    public double bitsPerValue() {
        return bitsPerValue;
    }

    /** The name of the kernels in use, such as "cpu_avx512". */
    public String variant() {
        return variant;
    }

    /** Frees the plan, after work that is queued; pages are the caller's. Idempotent. */
    @Override
    public void close() {
        plan.close();
    }

    /** Such as "KvCache K2V2 [8, 128] on cpu:0". */
    @Override
    public String toString() {
        return plan.toString();
    }
}
