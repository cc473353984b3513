package dev.tarpon.kv;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Tensor;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Pages of all layers of a model, handed out to sequences. A page number stands for the same page
 * in every layer, so a sequence has one page table. For engines that have no pool of their own.
 *
 * <p>Pages and sequences may be taken and given back from any thread; a {@link KvSequence} is for
 * one thread at a time.
 */
public final class KvPagePool implements AutoCloseable {
    private final KvCacheOptions options;
    private final List<Tensor> pages = new ArrayList<>();
    private final List<Tensor> recent = new ArrayList<>();
    private final int pageCount;
    private final int maxSequences;
    private final ArrayDeque<Integer> freePages = new ArrayDeque<>();
    private final ArrayDeque<Integer> freeSequences = new ArrayDeque<>();

    private KvPagePool(KvCache cache, int layers, int pageCount, int maxSequences) {
        this.options = cache.options();
        this.pageCount = pageCount;
        this.maxSequences = maxSequences;
        Device device = cache.device();
        try {
            for (int layer = 0; layer < layers; layer++) {
                pages.add(device.allocate(DType.U8, pageCount, cache.pageBytes()));
                if (cache.recentBytes() > 0) {
                    recent.add(device.allocate(DType.U8, maxSequences, cache.recentBytes()));
                }
            }
        } catch (RuntimeException exception) {
            close();
            throw exception;
        }
        for (int page = 0; page < pageCount; page++) {
            freePages.add(page);
        }
        for (int sequence = 0; sequence < maxSequences; sequence++) {
            freeSequences.add(sequence);
        }
    }

    /**
     * Allocates the pages.
     *
     * @param cache a plan of the layers' shape; plans of further layers differ in calibration only
     * @param pageCount pages of each layer
     * @param maxSequences how many sequences there may be at once
     * @throws dev.tarpon.TarponException with status OUT_OF_MEMORY if that fails
     */
    public static KvPagePool create(KvCache cache, int layers, int pageCount, int maxSequences) {
        if (layers < 1 || pageCount < 1 || maxSequences < 1) {
            throw new IllegalArgumentException(
                    "layers is %d, pageCount %d, maxSequences %d; all must be >= 1"
                            .formatted(layers, pageCount, maxSequences));
        }
        return new KvPagePool(cache, layers, pageCount, maxSequences);
    }

    /** An empty sequence, unless there are as many as there may be. */
    public Optional<KvSequence> open() {
        synchronized (freePages) {
            Integer index = freeSequences.poll();
            return Optional.ofNullable(index).map(free -> new KvSequence(this, free));
        }
    }

    /** Takes so many pages, or none; page numbers go to {@code to} from {@code at} on. */
    boolean take(int count, int[] to, int at) {
        synchronized (freePages) {
            if (freePages.size() < count) {
                return false;
            }
            for (int i = 0; i < count; i++) {
                to[at + i] = freePages.remove();
            }
            return true;
        }
    }

    void giveBack(int[] numbers, int from, int to) {
        synchronized (freePages) {
            for (int i = from; i < to; i++) {
                freePages.add(numbers[i]);
            }
        }
    }

    void giveBackSequence(int index) {
        synchronized (freePages) {
            freeSequences.add(index);
        }
    }

    /** Pages that no sequence has. */
    public int freePages() {
        synchronized (freePages) {
            return freePages.size();
        }
    }

    /** Pages of each layer. */
    public int pageCount() {
        return pageCount;
    }

    /** How many sequences there may be at once. */
    public int maxSequences() {
        return maxSequences;
    }

    public int layers() {
        return pages.size();
    }

    /** Of the plan that the pool was made for. */
    public KvCacheOptions options() {
        return options;
    }

    /** The pages of a layer, U8 [pageCount, pageBytes]. */
    public Tensor pages(int layer) {
        return pages.get(layer);
    }

    /** The recent store of a layer, U8 [maxSequences, recentBytes]; null if there is none. */
    public Tensor recent(int layer) {
        return recent.isEmpty() ? null : recent.get(layer);
    }

    /** What all layers take together. */
    public long sizeBytes() {
        return pages.stream().mapToLong(Tensor::sizeBytes).sum()
                + recent.stream().mapToLong(Tensor::sizeBytes).sum();
    }

    /** Frees all memory, after work that is queued; its sequences cannot be used any more. */
    @Override
    public void close() {
        pages.forEach(Tensor::close);
        recent.forEach(Tensor::close);
    }
}
