package dev.tarpon.kv;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;

/**
 * Where the attention sinks of a batch's sequences stand in one layer: tokens that are kept in 16
 * bits wherever they are, instead of the first ones. RotateKV keeps those that carry the layer's
 * massive activations (Su et al., "RotateKV", IJCAI 2025, section 3.3).
 *
 * <pre>{@code
 * sinks.clear();
 * sinks.add(0, 17);                  // of the batch's first sequence
 * sinks.add(0);                      // of its second one
 * sinks.upload(stream);
 * plan.append(batch, sinks, pool.pages(layer), pool.recent(layer), k, v, stream);
 * plan.attend(batch, 1, sinks, pool.pages(layer), pool.recent(layer), q, o, stream);
 * }</pre>
 *
 * <p>A sequence has the same positions in every call, or some more behind them; a position must be
 * there when its token is appended. Without a {@code KvSinks} the first {@code sinkTokens} of every
 * sequence are sinks.
 *
 * <p>Reused from step to step; its addresses stay the same. For one thread at a time.
 */
public final class KvSinks implements AutoCloseable {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
    private static final int NONE = -1;

    private final Device device;
    private final KvCacheOptions options;
    private final int maxSequences;
    private final MemorySegment staging;
    private final Tensor memory;
    private final boolean shared;
    private int sequences;
    private boolean uploaded;

    private KvSinks(Device device, KvCacheOptions options, int maxSequences) {
        this.device = device;
        this.options = options;
        this.maxSequences = maxSequences;
        long bytes = (long) maxSequences * options.sinkTokens() * Integer.BYTES;
        staging = Arena.ofAuto().allocate(bytes, Integer.BYTES);
        // On the CPU the library reads host memory, and there is nothing to copy.
        shared = device.info().kind() == DeviceKind.CPU;
        memory =
                shared
                        ? device.wrap(staging, DType.U8, bytes)
                        : device.allocate(DType.U8, bytes).copyFrom(staging);
    }

    /**
     * Lists for so many sequences.
     *
     * @param cache a plan with sinkTokens of at least 1, which is the length of a list
     * @throws IllegalArgumentException if it keeps no sinks, or there is no sequence
     */
    public static KvSinks create(KvCache cache, int maxSequences) {
        if (maxSequences < 1 || cache.options().sinkTokens() < 1) {
            throw new IllegalArgumentException(
                    "maxSequences is %d, sinkTokens %d; both must be >= 1"
                            .formatted(maxSequences, cache.options().sinkTokens()));
        }
        return new KvSinks(cache.device(), cache.options(), maxSequences);
    }

    /** Removes all lists. */
    public void clear() {
        sequences = 0;
        uploaded = false;
    }

    /**
     * Adds the list of the batch's next sequence.
     *
     * @param positions rising, each in 0 .. maxTokens - 1; none, up to sinkTokens
     * @throws IllegalArgumentException if they are not, or there is no room
     */
    public void add(int... positions) {
        int most = options.sinkTokens();
        if (positions.length > most || sequences == maxSequences) {
            throw new IllegalArgumentException(
                    "%d sinks of sequence %d; there is room for %d of %d sequences"
                            .formatted(positions.length, sequences, most, maxSequences));
        }
        for (int i = 0; i < positions.length; i++) {
            int before = i == 0 ? NONE : positions[i - 1];
            if (positions[i] <= before || positions[i] >= options.maxTokens()) {
                throw new IllegalArgumentException(
                        "sink %d of sequence %d is at position %d, behind %d; positions must rise,"
                                        .formatted(i, sequences, positions[i], before)
                                + " from 0 to %d at most".formatted(options.maxTokens() - 1));
            }
        }
        for (int i = 0; i < most; i++) {
            int position = i < positions.length ? positions[i] : NONE;
            staging.setAtIndex(INT, (long) sequences * most + i, position);
        }
        sequences++;
        uploaded = false;
    }

    /** Brings the lists to the device; needed after changes, and before they are used. */
    public void upload(Stream stream) {
        Objects.requireNonNull(stream, "stream");
        if (!shared) {
            memory.copyFrom(staging, stream);
        }
        uploaded = true;
    }

    /** How many sequences have a list. */
    public int sequences() {
        return sequences;
    }

    void requireUploaded(Device expected, KvCacheOptions expectedOptions, int batch) {
        if (expected != device
                || options.sinkTokens() != expectedOptions.sinkTokens()
                || options.maxTokens() > expectedOptions.maxTokens()) {
            throw new IllegalArgumentException(
                    "the sinks are %d of %d tokens on %s; the cache has %d of %d on %s"
                            .formatted(
                                    options.sinkTokens(),
                                    options.maxTokens(),
                                    device,
                                    expectedOptions.sinkTokens(),
                                    expectedOptions.maxTokens(),
                                    expected));
        }
        if (sequences != batch) {
            throw new IllegalArgumentException(
                    "%d sequences have lists of sinks; the batch has %d"
                            .formatted(sequences, batch));
        }
        if (!uploaded) {
            throw new IllegalStateException(
                    "the sinks of %d sequences have changed; upload them first"
                            .formatted(sequences));
        }
    }

    Tensor memory() {
        return memory;
    }

    /** Frees its memory, after work that is queued. Idempotent. */
    @Override
    public void close() {
        memory.close();
    }
}
