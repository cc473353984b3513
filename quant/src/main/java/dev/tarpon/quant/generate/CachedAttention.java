package dev.tarpon.quant.generate;

import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.kv.KvBatch;
import dev.tarpon.kv.KvCache;
import dev.tarpon.kv.KvCacheOptions;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvPagePool;
import dev.tarpon.kv.KvSequence;
import dev.tarpon.kv.KvSinks;
import dev.tarpon.quant.kv.KvFormat;
import dev.tarpon.quant.kv.MassiveActivations;
import dev.tarpon.quant.kv.SinkPolicy;
import dev.tarpon.quant.llama.LlamaConfig;

import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;

/**
 * Attention over a quantised cache through the library, on any device. A prompt goes in by pieces
 * of as many tokens as one attend takes, so that every token attends to what the cache has made of
 * the others, whether it came with the prompt or was generated.
 */
public final class CachedAttention implements Attention {
    private final LlamaConfig config;
    private final int batch;
    private final Stream stream;
    private final List<KvCache> plans = new ArrayList<>();
    private final KvPagePool pool;
    private final List<KvSequence> sequences = new ArrayList<>();
    private final int[][] pageTables;
    private final KvBatch step;
    private final SinkPolicy sinkPolicy;
    // Of each layer; empty where the first tokens are the sinks.
    private final List<MassiveSinks> sinks = new ArrayList<>();
    private final DeviceFloats q;
    private final DeviceFloats k;
    private final DeviceFloats v;
    private final DeviceFloats o;

    /**
     * A cache with all its pages.
     *
     * @param calibration of each layer, by its number
     * @param batch how many sequences
     * @param maxTokens longest sequence; memory for it is taken at once
     */
    public CachedAttention(
            Device device,
            LlamaConfig config,
            KvFormat format,
            IntFunction<KvCalibration> calibration,
            int batch,
            int maxTokens) {
        this.config = config;
        this.batch = batch;
        sinkPolicy = format.sinks();
        KvCacheOptions options = options(config, format, maxTokens);
        stream = device.createStream();
        try {
            for (int layer = 0; layer < config.layers(); layer++) {
                plans.add(KvCache.create(device, options, calibration.apply(layer)));
            }
            int pages = options.pagesOf(maxTokens);
            pool = KvPagePool.create(plans.getFirst(), config.layers(), batch * pages, batch);
            clear();
            pageTables = new int[batch][pages];
            for (int row = 0; row < batch; row++) {
                KvSequence sequence = pool.open().orElseThrow();
                sequence.reserve(maxTokens);
                for (int page = 0; page < pages; page++) {
                    pageTables[row][page] = sequence.page(page);
                }
                sequences.add(sequence);
            }
            if (sinkPolicy == SinkPolicy.MASSIVE) {
                plans.forEach(plan -> sinks.add(new MassiveSinks(plan, batch, config.hidden())));
            }
            int tokens = batch * KvCache.MAX_QUERIES;
            step = KvBatch.create(plans.getFirst(), batch, tokens, maxTokens);
            q = new DeviceFloats(device, tokens * config.queryWidth());
            k = new DeviceFloats(device, tokens * config.keyValueWidth());
            v = new DeviceFloats(device, tokens * config.keyValueWidth());
            o = new DeviceFloats(device, tokens * config.queryWidth());
        } catch (RuntimeException failure) {
            sinks.forEach(MassiveSinks::close);
            plans.forEach(KvCache::close);
            stream.close();
            throw failure;
        }
    }

    /** Zeros, so that a snapshot has no bytes of other uses of the memory. */
    private void clear() {
        try (Arena arena = Arena.ofConfined()) {
            for (int layer = 0; layer < config.layers(); layer++) {
                Tensor pages = pool.pages(layer);
                pages.copyFrom(arena.allocate(pages.sizeBytes(), 64), stream);
                Tensor recent = pool.recent(layer);
                if (recent != null) {
                    recent.copyFrom(arena.allocate(recent.sizeBytes(), 64), stream);
                }
            }
        }
    }

    /** Options of a model's cache. */
    static KvCacheOptions options(LlamaConfig config, KvFormat format, int maxTokens) {
        return format.apply(
                        KvCacheOptions.builder(
                                config.headDim(), config.queryHeads(), config.keyValueHeads()))
                .ropeTheta(config.ropeTheta())
                .maxTokens(maxTokens)
                .build();
    }

    @Override
    public int batch() {
        return batch;
    }

    @Override
    public int length() {
        return sequences.getFirst().length();
    }

    @Override
    public void layerInput(int layer, int count, float[] x) {
        if (sinkPolicy == SinkPolicy.MASSIVE) {
            sinks.get(layer).add(count, x, stream);
        }
    }

    @Override
    public void step(
            int layer, int count, float[] queries, float[] keys, float[] values, float[] out) {
        int maxTokens = pool.options().maxTokens();
        if (length() + count > maxTokens) {
            throw new IllegalArgumentException(
                    "%d tokens behind %d; there is room for %d"
                            .formatted(count, length(), maxTokens));
        }
        for (int done = 0; done < count; done += KvCache.MAX_QUERIES) {
            int piece = Math.min(KvCache.MAX_QUERIES, count - done);
            describe(layer, done, piece, count);
            for (int row = 0; row < batch; row++) {
                int from = row * count + done;
                put(queries, q, from, row * piece, piece, config.queryWidth());
                put(keys, k, from, row * piece, piece, config.keyValueWidth());
                put(values, v, from, row * piece, piece, config.keyValueWidth());
            }
            run(layer, piece);
            for (int row = 0; row < batch; row++) {
                int width = config.queryWidth();
                o.get(row * piece * width, out, (row * count + done) * width, piece * width);
            }
        }
        if (layer == config.layers() - 1) {
            sequences.forEach(sequence -> sequence.advance(count));
        }
    }

    private static void put(
            float[] from, DeviceFloats to, int fromToken, int toToken, int tokens, int width) {
        to.put(from, fromToken * width, toToken * width, tokens * width);
    }

    /** Fills the batch; for a single piece it is the same for all layers. */
    private void describe(int layer, int done, int piece, int count) {
        if (layer > 0 && count <= KvCache.MAX_QUERIES) {
            return;
        }
        step.clear();
        for (int row = 0; row < batch; row++) {
            int from = length() + done;
            step.add(
                    pageTables[row],
                    pageTables[row].length,
                    sequences.get(row).recentIndex(),
                    from + piece,
                    from,
                    piece);
        }
        step.upload(stream);
    }

    private void run(int layer, int piece) {
        KvCache plan = plans.get(layer);
        q.upload(stream);
        k.upload(stream);
        v.upload(stream);
        KvSinks lists = sinkPolicy == SinkPolicy.MASSIVE ? sinks.get(layer).lists() : null;
        Tensor pages = pool.pages(layer);
        Tensor recent = pool.recent(layer);
        plan.append(step, lists, pages, recent, k.tensor(), v.tensor(), stream);
        plan.attend(step, piece, lists, pages, recent, q.tensor(), o.tensor(), stream);
        o.download(stream);
    }

    /** Bytes of the pages that hold tokens, and of the recent stores, of all layers. */
    public long usedBytes() {
        KvCache plan = plans.getFirst();
        long pages = (long) batch * pool.options().pagesOf(length());
        return config.layers() * (pages * plan.pageBytes() + batch * plan.recentBytes());
    }

    /** Of the pages, scales included. */
    public double bitsPerValue() {
        return plans.getFirst().bitsPerValue();
    }

    /** The name of the kernels in use. */
    public String variant() {
        return plans.getFirst().variant();
    }

    public LlamaConfig config() {
        return config;
    }

    /** Which tokens are sinks. */
    public SinkPolicy sinkPolicy() {
        return sinkPolicy;
    }

    /** Sinks that a sequence has in a layer, on average over both. */
    public double meanSinks() {
        if (sinkPolicy == SinkPolicy.FIRST) {
            return Math.min(length(), pool.options().sinkTokens());
        }
        return sinks.stream().mapToDouble(MassiveSinks::mean).average().orElseThrow();
    }

    /** What has been found in a layer with policy MASSIVE, for snapshots. */
    MassiveActivations massive(int layer, int row) {
        return sinks.get(layer).sequence(row);
    }

    /** The pages, for snapshots. */
    public KvPagePool pool() {
        return pool;
    }

    /** The plan of a layer, for snapshots. */
    public KvCache plan(int layer) {
        return plans.get(layer);
    }

    /** The sequences, for snapshots. */
    public KvSequence sequence(int row) {
        return sequences.get(row);
    }

    @Override
    public void close() {
        q.close();
        k.close();
        v.close();
        o.close();
        step.close();
        sinks.forEach(MassiveSinks::close);
        pool.close();
        plans.forEach(KvCache::close);
        stream.close();
    }
}
