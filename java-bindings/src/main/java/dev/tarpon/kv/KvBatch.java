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
 * What one step of an engine stores and attends: the sequences, where their pages are, and which of
 * their tokens are new. It is the same for all layers.
 *
 * <pre>{@code
 * batch.clear();
 * batch.add(sequence, 1);            // one more token; its page was reserved before
 * batch.upload(stream);
 * for (int layer = 0; layer < layers; layer++) {
 *     plan.append(batch, pool.pages(layer), pool.recent(layer), k, v, stream);
 *     plan.attend(batch, 1, pool.pages(layer), pool.recent(layer), q, o, stream);
 * }
 * sequence.advance(1);
 * }</pre>
 *
 * <p>Reused from step to step; its addresses stay the same. For one thread at a time.
 */
public final class KvBatch implements AutoCloseable {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;

    private final Device device;
    private final int pageTokens;
    private final int maxSequences;
    private final int maxNewTokens;
    private final int tableStride;
    private final MemorySegment staging;
    private final Tensor memory;
    private final boolean shared;
    private final long positionsOffset;
    private final long rowsOffset;
    private final long lengthsOffset;
    private final long recentOffset;
    private final long tableOffset;
    private final KvArguments arguments = new KvArguments();

    private int sequences;
    private int tokens;
    private int maxLength;
    private boolean uploaded;

    private KvBatch(
            Device device, int pageTokens, int maxSequences, int maxNewTokens, int maxLength) {
        this.device = device;
        this.pageTokens = pageTokens;
        this.maxSequences = maxSequences;
        this.maxNewTokens = maxNewTokens;
        tableStride = Math.ceilDiv(maxLength, pageTokens);
        positionsOffset = (long) maxNewTokens * Long.BYTES;
        rowsOffset = positionsOffset + (long) maxNewTokens * Integer.BYTES;
        lengthsOffset = rowsOffset + (long) maxNewTokens * Integer.BYTES;
        recentOffset = lengthsOffset + (long) maxSequences * Integer.BYTES;
        tableOffset = recentOffset + (long) maxSequences * Integer.BYTES;
        long bytes = tableOffset + (long) maxSequences * tableStride * Integer.BYTES;
        staging = Arena.ofAuto().allocate(bytes, Long.BYTES);
        // On the CPU the library reads host memory, and there is nothing to copy.
        shared = device.info().kind() == DeviceKind.CPU;
        memory =
                shared
                        ? device.wrap(staging, DType.U8, bytes)
                        : device.allocate(DType.U8, bytes).copyFrom(staging);
    }

    /**
     * A batch with room for so many sequences and, over all of them, new tokens.
     *
     * @param cache a plan whose device and pages the batch is for
     * @param maxLength longest sequence
     */
    public static KvBatch create(KvCache cache, int maxSequences, int maxNewTokens, int maxLength) {
        if (maxSequences < 1 || maxNewTokens < 1 || maxLength < 1) {
            throw new IllegalArgumentException(
                    "maxSequences is %d, maxNewTokens %d, maxLength %d; all must be >= 1"
                            .formatted(maxSequences, maxNewTokens, maxLength));
        }
        return new KvBatch(
                cache.device(),
                cache.options().pageTokens(),
                maxSequences,
                maxNewTokens,
                maxLength);
    }

    /** Removes all sequences. */
    public void clear() {
        sequences = 0;
        tokens = 0;
        maxLength = 0;
        uploaded = false;
    }

    /**
     * Adds a sequence of a pool with tokens to come behind those it has.
     *
     * @param newTokens 0 or more; their pages must be reserved
     * @throws IllegalArgumentException if there is no room for it, or pages are not reserved
     */
    public void add(KvSequence sequence, int newTokens) {
        add(
                sequence.pages(),
                sequence.pageCount(),
                sequence.recentIndex(),
                Math.addExact(sequence.length(), newTokens),
                sequence.length(),
                newTokens);
    }

    /**
     * Adds a sequence of a pool with some of the tokens that it has, to read or store them again.
     *
     * @param from position of the first of them
     */
    public void addStored(KvSequence sequence, int from, int count) {
        add(
                sequence.pages(),
                sequence.pageCount(),
                sequence.recentIndex(),
                sequence.length(),
                from,
                count);
    }

    /**
     * Adds a sequence of an engine with pages of its own.
     *
     * @param pages numbers of its pages in the order of its tokens
     * @param pageCount how many of them count
     * @param recentIndex which block of the recent store it has; any if there is none
     * @param length its tokens, those that are stored by this step included
     * @param from position of the first token that this step stores or reads
     * @param count how many tokens it stores or reads
     * @throws IllegalArgumentException if a number is out of range or there is no room for it
     */
    public void add(int[] pages, int pageCount, int recentIndex, int length, int from, int count) {
        int needed = Math.ceilDiv(length, pageTokens);
        if (from < 0 || count < 0 || length < 0 || from > length - count) {
            throw new IllegalArgumentException(
                    "%d tokens from position %d of a sequence of %d"
                            .formatted(count, from, length));
        }
        if (needed > pageCount || pageCount > pages.length) {
            throw new IllegalArgumentException(
                    "%d tokens take %d pages of %d; the sequence has %d"
                            .formatted(length, needed, pageTokens, pageCount));
        }
        if (sequences == maxSequences || tokens > maxNewTokens - count || needed > tableStride) {
            throw new IllegalArgumentException(
                    "%d tokens of a sequence of %d behind %d tokens of %d sequences: the batch has"
                                    .formatted(count, length, tokens, sequences)
                            + " room for %d sequences of %d tokens, %d of them stored at once"
                                    .formatted(
                                            maxSequences, tableStride * pageTokens, maxNewTokens));
        }
        for (int i = 0; i < count; i++) {
            int position = from + i;
            long slot = (long) pages[position / pageTokens] * pageTokens + position % pageTokens;
            staging.setAtIndex(LONG, tokens + i, slot);
            setInt(positionsOffset, tokens + i, position);
            setInt(rowsOffset, tokens + i, sequences);
        }
        setInt(lengthsOffset, sequences, length);
        setInt(recentOffset, sequences, recentIndex);
        for (int i = 0; i < needed; i++) {
            setInt(tableOffset, sequences * tableStride + i, pages[i]);
        }
        sequences++;
        tokens += count;
        maxLength = Math.max(maxLength, length);
        uploaded = false;
    }

    private void setInt(long offset, int index, int value) {
        staging.set(INT, offset + (long) index * Integer.BYTES, value);
    }

    /** Brings the batch to the device; needed after changes, and before it is used. */
    public void upload(Stream stream) {
        Objects.requireNonNull(stream, "stream");
        if (!shared) {
            memory.copyFrom(staging, stream);
        }
        uploaded = true;
    }

    /** How many sequences there are. */
    public int sequences() {
        return sequences;
    }

    /** How many tokens are stored or read. */
    public int tokens() {
        return tokens;
    }

    /** The longest sequence. */
    public int maxLength() {
        return maxLength;
    }

    void requireUploaded(Device expected, KvCacheOptions options) {
        if (expected != device || options.pageTokens() != pageTokens) {
            throw new IllegalArgumentException(
                    "the batch is for pages of %d tokens on %s; the cache has pages of %d on %s"
                            .formatted(pageTokens, device, options.pageTokens(), expected));
        }
        if (!uploaded) {
            throw new IllegalStateException(
                    "the batch of %d sequences has changed; upload it first".formatted(sequences));
        }
    }

    KvArguments arguments() {
        return arguments;
    }

    Tensor memory() {
        return memory;
    }

    int tableStride() {
        return tableStride;
    }

    long slotsAddress() {
        return memory.address();
    }

    long positionsAddress() {
        return memory.address() + positionsOffset;
    }

    long rowsAddress() {
        return memory.address() + rowsOffset;
    }

    long lengthsAddress() {
        return memory.address() + lengthsOffset;
    }

    long recentIndexAddress() {
        return memory.address() + recentOffset;
    }

    long pageTableAddress() {
        return memory.address() + tableOffset;
    }

    /** Frees its memory, after work that is queued. Idempotent. */
    @Override
    public void close() {
        memory.close();
    }
}
