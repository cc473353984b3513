package dev.tarpon.quant.generate;

import dev.tarpon.Stream;
import dev.tarpon.kv.KvCache;
import dev.tarpon.kv.KvSinks;
import dev.tarpon.quant.kv.MassiveActivations;

import java.util.ArrayList;
import java.util.List;

/** The sinks of a layer's sequences, found by massive activations as their tokens come. */
final class MassiveSinks implements AutoCloseable {
    private final List<MassiveActivations> sequences = new ArrayList<>();
    private final int hidden;
    private final KvSinks lists;

    MassiveSinks(KvCache cache, int batch, int hidden) {
        this.hidden = hidden;
        for (int row = 0; row < batch; row++) {
            sequences.add(new MassiveActivations(hidden, cache.options().sinkTokens()));
        }
        lists = KvSinks.create(cache, batch);
    }

    /** Looks at the next tokens of all sequences, [batch, count, hidden]. */
    void add(int count, float[] x, Stream stream) {
        lists.clear();
        for (int row = 0; row < sequences.size(); row++) {
            MassiveActivations activations = sequences.get(row);
            activations.add(x, row * count * hidden, count);
            lists.add(activations.positions());
        }
        lists.upload(stream);
    }

    /** How many a sequence has on average. */
    double mean() {
        return sequences.stream()
                .mapToInt(sequence -> sequence.positions().length)
                .average()
                .orElseThrow();
    }

    MassiveActivations sequence(int row) {
        return sequences.get(row);
    }

    /** For the cache's calls. */
    KvSinks lists() {
        return lists;
    }

    @Override
    public void close() {
        lists.close();
    }
}
