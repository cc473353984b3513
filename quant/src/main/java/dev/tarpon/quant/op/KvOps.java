package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.kv.KvBatch;
import dev.tarpon.kv.KvCache;
import dev.tarpon.kv.KvCacheOptions;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvPagePool;
import dev.tarpon.kv.KvSequence;
import dev.tarpon.kv.KvSinks;
import dev.tarpon.quant.kv.KvFormat;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;

/**
 * The KV cache from one safetensors file to another: a sequence goes in, and is read or attended.
 */
public final class KvOps {
    private KvOps() {}

    /** One sequence in a cache of one layer. */
    private static final class Session implements AutoCloseable {
        private final Device device;
        private final Stream stream;
        private final KvCache cache;
        private final KvPagePool pool;
        private final KvSequence sequence;
        private final KvBatch batch;
        private final KvSinks sinks;
        private final int kept;
        private final HostTensor k;
        private final HostTensor v;

        Session(
                Device device,
                TensorInputs inputs,
                HostTensor k,
                HostTensor v,
                KvOptions options,
                int queryHeads,
                KvCalibration calibration)
                throws IOException {
            this.device = device;
            this.k = k;
            this.v = v;
            int tokens = Math.toIntExact(k.dimension(0));
            int headDim = Math.toIntExact(k.dimension(2));
            KvCacheOptions.Builder builder =
                    KvCacheOptions.builder(headDim, queryHeads, Math.toIntExact(k.dimension(1)));
            stream = device.createStream();
            cache =
                    create(
                            device,
                            inputs,
                            options.format()
                                    .apply(builder)
                                    .rope(headDim, options.ropeLayout(), options.ropeTheta(), 1)
                                    .pageTokens(options.pageTokens())
                                    .dtype(OpTensors.dtype(k.type()))
                                    .maxTokens(tokens)
                                    .build(),
                            calibration);
            int pages = cache.options().pagesOf(tokens);
            pool = KvPagePool.create(cache, 1, pages, 1);
            sequence = pool.open().orElseThrow();
            sequence.reserve(tokens);
            batch = KvBatch.create(cache, 1, tokens, tokens);
            int[] positions = options.sinkPositions();
            sinks = positions == null ? null : KvSinks.create(cache, 1);
            if (sinks != null) {
                requirePositions(inputs, positions, tokens);
                sinks.add(positions);
                sinks.upload(stream);
            }
            kept = kept(options.format(), positions, tokens);
        }

        private static void requirePositions(TensorInputs inputs, int[] positions, int tokens)
                throws IOException {
            int last = positions[positions.length - 1];
            if (last >= tokens) {
                throw inputs.failure(
                        "k", "has %d tokens, but a sink is at position %d", tokens, last);
            }
        }

        /** How many tokens are in 16 bits. */
        private static int kept(KvFormat format, int[] positions, int tokens) {
            int window = Math.max(0, tokens - format.windowTokens());
            if (positions == null) {
                return Math.min(tokens, format.sinkTokens() + format.windowTokens());
            }
            long before = Arrays.stream(positions).filter(position -> position < window).count();
            return (int) before + tokens - window;
        }

        private static KvCache create(
                Device device,
                TensorInputs inputs,
                KvCacheOptions options,
                KvCalibration calibration)
                throws IOException {
            KvCache[] cache = new KvCache[1];
            OpTensors.named(
                    inputs, "k", () -> cache[0] = KvCache.create(device, options, calibration));
            return cache[0];
        }

        /** Stores the next tokens. */
        void append(int count) throws IOException {
            if (count == 0) {
                return;
            }
            batch.clear();
            batch.add(sequence, count);
            batch.upload(stream);
            int from = sequence.length();
            try (Tensor keys = OpTensors.upload(device, rows(k, from, count));
                    Tensor values = OpTensors.upload(device, rows(v, from, count))) {
                cache.append(batch, sinks, pool.pages(0), pool.recent(0), keys, values, stream);
                stream.synchronize();
            }
            sequence.advance(count);
        }

        /** Attends with tokens that are stored; the last ones. */
        HostTensor attend(Arena arena, HostTensor q, int from, int count) {
            batch.clear();
            batch.addStored(sequence, sequence.length(), 0);
            batch.upload(stream);
            HostTensor part = rows(q, from, count);
            try (Tensor queries = OpTensors.upload(device, part);
                    Tensor outputs = device.allocate(OpTensors.dtype(part.type()), part.shape())) {
                Tensor recent = pool.recent(0);
                cache.attend(batch, count, sinks, pool.pages(0), recent, queries, outputs, stream);
                return OpTensors.download(arena, "o", outputs, stream);
            }
        }

        /** Adds what the cache has made of keys and values. */
        void read(SafetensorsWriter writer, Arena arena) {
            batch.clear();
            batch.addStored(sequence, 0, sequence.length());
            batch.upload(stream);
            try (Tensor keys = device.allocate(DType.F32, k.shape());
                    Tensor values = device.allocate(DType.F32, v.shape())) {
                cache.dequantize(batch, sinks, pool.pages(0), pool.recent(0), keys, values, stream);
                writer.add(OpTensors.download(arena, "k_dequantised", keys, stream));
                writer.add(OpTensors.download(arena, "v_dequantised", values, stream));
            }
        }

        /** Bits of an average value: the pages', and 16 for tokens that are kept in 16 bits. */
        double bitsPerValue() {
            int tokens = cache.options().maxTokens();
            return (cache.bitsPerValue() * (tokens - kept) + 16.0 * kept) / tokens;
        }

        void describe(SafetensorsWriter writer, Arena arena, String op) {
            MemorySegment bits = arena.allocateFrom(ValueLayout.JAVA_FLOAT, (float) bitsPerValue());
            writer.metadata("op", op)
                    .metadata("tarpon", Tarpon.version())
                    .metadata("device", device.info().spec())
                    .metadata("variant", cache.variant())
                    .metadata("mode", cache.options().mode().name().toLowerCase(Locale.ROOT))
                    .add(new HostTensor("bits_per_value", ElementType.F32, new long[] {1}, bits));
        }

        @Override
        public void close() {
            if (sinks != null) {
                sinks.close();
            }
            batch.close();
            pool.close();
            cache.close();
            stream.close();
        }
    }

    /**
     * kv-roundtrip: k and v [tokens, kv_heads, head_dim] through the cache and back, as
     * k_dequantised (after rotary positions, un-rotated, mean put back) and v_dequantised, F32.
     */
    public static void roundTrip(Device device, Path in, Path out, KvOptions options)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor k = heads(inputs, "k");
            HostTensor v = inputs.tensor("v", k.type());
            inputs.requireShape(v, "the shape of k", k.shape());
            int kvHeads = Math.toIntExact(k.dimension(1));
            KvCalibration calibration = KvCalibrations.read(device, inputs, k, options);
            try (var session = new Session(device, inputs, k, v, options, kvHeads, calibration)) {
                session.append(Math.toIntExact(k.dimension(0)));
                var writer = new SafetensorsWriter();
                session.describe(writer, arena, "kv-roundtrip");
                session.read(writer, arena);
                writer.write(out);
            }
        }
    }

    /**
     * kv-attend: o [queries, q_heads, head_dim] of q, which stand at the last positions, causal.
     * The tokens before them are stored first, then the queries' own by pieces of 8, each attended
     * before the next: so a window covers what it covers while a model generates.
     */
    public static void attend(Device device, Path in, Path out, KvOptions options)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor k = heads(inputs, "k");
            HostTensor v = inputs.tensor("v", k.type());
            inputs.requireShape(v, "the shape of k", k.shape());
            HostTensor q = heads(inputs, "q");
            if (q.type() != k.type() || q.dimension(2) != k.dimension(2)) {
                throw inputs.failure("q", "is %s, but k is %s", q.description(), k.description());
            }
            int tokens = Math.toIntExact(k.dimension(0));
            int queries = Math.toIntExact(q.dimension(0));
            if (queries > tokens) {
                throw inputs.failure(
                        "q",
                        "has shape %s: %d queries, but there are only %d tokens",
                        Shapes.text(q.shape()),
                        queries,
                        tokens);
            }
            int heads = Math.toIntExact(q.dimension(1));
            KvCalibration calibration = KvCalibrations.read(device, inputs, k, options);
            try (var session = new Session(device, inputs, k, v, options, heads, calibration)) {
                MemorySegment o = arena.allocate(q.data().byteSize(), 64);
                long rowBytes = q.data().byteSize() / queries;
                session.append(tokens - queries);
                for (int done = 0; done < queries; done += KvCache.MAX_QUERIES) {
                    int piece = Math.min(KvCache.MAX_QUERIES, queries - done);
                    session.append(piece);
                    HostTensor part = session.attend(arena, q, done, piece);
                    o.asSlice(done * rowBytes, piece * rowBytes).copyFrom(part.data());
                }
                var writer = new SafetensorsWriter();
                session.describe(writer, arena, "kv-attend");
                writer.add(new HostTensor("o", q.type(), q.shape(), o)).write(out);
            }
        }
    }

    private static HostTensor heads(TensorInputs inputs, String name) throws IOException {
        HostTensor tensor = inputs.filled(name, OpTensors.FLOATS);
        if (tensor.rank() != 3) {
            throw inputs.failure(
                    name,
                    "has shape %s, expected [tokens, heads, head_dim]",
                    Shapes.text(tensor.shape()));
        }
        return tensor;
    }

    /** Some rows of the first dimension; a view. */
    private static HostTensor rows(HostTensor tensor, int from, int count) {
        long[] shape = tensor.shape();
        long rowBytes = tensor.data().byteSize() / shape[0];
        shape[0] = count;
        return new HostTensor(
                tensor.name(),
                tensor.type(),
                shape,
                tensor.data().asSlice(from * rowBytes, count * rowBytes));
    }
}
