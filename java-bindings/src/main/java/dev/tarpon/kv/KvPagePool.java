package dev.tarpon.kv;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Tensor;

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
    private final FreeNumbers freePages;
    private final FreeNumbers freeSequences;

    private KvPagePool(KvCache cache, int layers, int pageCount, int maxSequences) {
        this.options = cache.options();
        this.pageCount = pageCount;
        this.maxSequences = maxSequences;
        freePages = new FreeNumbers(pageCount);
        freeSequences = new FreeNumbers(maxSequences);
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
    }

    /** Numbers from 0 up, the last one given back being the next one taken. */
    private static final class FreeNumbers {
        private final int[] numbers;
        private int count;

        FreeNumbers(int size) {
            numbers = new int[size];
            for (int i = size - 1; i >= 0; i--) {
                numbers[count++] = i;
            }
        }

        int take() {
            return numbers[--count];
        }

        void giveBack(int number) {
            numbers[count++] = number;
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
            return freeSequences.count == 0
                    ? Optional.empty()
                    : Optional.of(new KvSequence(this, freeSequences.take()));
        }
    }

    /** Takes so many pages, or none; page numbers go to {@code to} from {@code at} on. */
    boolean take(int count, int[] to, int at) {
        synchronized (freePages) {
            if (freePages.count < count) {
                return false;
            }
            for (int i = 0; i < count; i++) {
                to[at + i] = freePages.take();
            }
            return true;
        }
    }

    void giveBack(int[] numbers, int from, int to) {
        synchronized (freePages) {
            for (int i = from; i < to; i++) {
                freePages.giveBack(numbers[i]);
            }
        }
    }

    void giveBackSequence(int index) {
        synchronized (freePages) {
            freeSequences.giveBack(index);
        }
    }

    /** Pages that no sequence has. */
    public int freePages() {
        synchronized (freePages) {
            return freePages.count;
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
