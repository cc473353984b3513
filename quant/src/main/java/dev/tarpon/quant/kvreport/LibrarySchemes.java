package dev.tarpon.quant.kvreport;

import dev.tarpon.DType;
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
import dev.tarpon.quant.kv.SinkPolicy;

/** The library's cache, stored into and read back. */
final class LibrarySchemes {
    private LibrarySchemes() {}

    static Coded roundTrip(
            Device device, LayerData data, KvFormat format, KvCalibration calibration) {
        KvCacheOptions.Builder builder =
                KvCacheOptions.builder(data.headDim(), data.queryHeads(), data.keyValueHeads())
                        .maxTokens(data.tokens());
        format.apply(builder);
        if (data.ropeTheta() == 0) {
            builder.rope(0, LayerData.LAYOUT, 10000, 1);
        } else {
            builder.rope(data.headDim(), LayerData.LAYOUT, data.ropeTheta(), 1);
        }
        KvCacheOptions options = builder.build();
        int tokens = data.tokens();
        try (Stream stream = device.createStream();
                KvCache cache = KvCache.create(device, options, calibration);
                KvPagePool pool = KvPagePool.create(cache, 1, options.pagesOf(tokens), 1);
                KvBatch batch = KvBatch.create(cache, 1, tokens, tokens);
                KvSinks sinks = sinks(cache, format, data, stream);
                Tensor k = device.allocate(DType.F32, data.k().length).copyFrom(data.k());
                Tensor v = device.allocate(DType.F32, data.v().length).copyFrom(data.v())) {
            KvSequence sequence = pool.open().orElseThrow();
            sequence.reserve(tokens);
            batch.add(sequence, tokens);
            batch.upload(stream);
            cache.append(batch, sinks, pool.pages(0), pool.recent(0), k, v, stream);
            sequence.advance(tokens);
            // The tokens are the same ones, so the batch serves to read them, too.
            cache.dequantize(batch, sinks, pool.pages(0), pool.recent(0), k, v, stream);
            int first = Math.min(tokens, format.sinkTokens());
            int kept = sinks == null ? first : data.massive().length;
            double bits = (cache.bitsPerValue() * (tokens - kept) + 16.0 * kept) / tokens;
            return new Coded(k.toFloatArray(), v.toFloatArray(), bits);
        }
    }

    /** The lists of massive activations; null where the first tokens are the sinks. */
    private static KvSinks sinks(KvCache cache, KvFormat format, LayerData data, Stream stream) {
        if (format.sinks() == SinkPolicy.FIRST) {
            return null;
        }
        KvSinks sinks = KvSinks.create(cache, 1);
        sinks.add(data.massive());
        sinks.upload(stream);
        return sinks;
    }
}
