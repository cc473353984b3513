package dev.tarpon.kv;

import java.util.Arrays;
import java.util.Objects;

/** The pages and the length of one sequence of a pool. For one thread at a time. */
public final class KvSequence implements AutoCloseable {
    /** How far a sequence with a recent window may be shortened behind its longest. */
    public static final int MAX_SHORTENING = 8;

    private final KvPagePool pool;
    private final int recentIndex;
    private int[] pages = new int[4];
    private int pageCount;
    private int length;
    private int longest;
    private boolean closed;

    KvSequence(KvPagePool pool, int recentIndex) {
        this.pool = pool;
        this.recentIndex = recentIndex;
    }

    /**
     * Makes sure that there are pages for so many tokens.
     *
     * @param tokens in all, those that are stored already included
     * @return false, and nothing is taken, if the pool has too few free pages
     */
    public boolean reserve(int tokens) {
        requireOpen();
        int needed = pool.options().pagesOf(tokens);
        if (needed <= pageCount) {
            return true;
        }
        if (needed > pages.length) {
            pages = Arrays.copyOf(pages, Math.max(needed, 2 * pages.length));
        }
        if (!pool.take(needed - pageCount, pages, pageCount)) {
            return false;
        }
        pageCount = needed;
        return true;
    }

    /**
     * Counts tokens that were appended in all layers.
     *
     * @throws IllegalArgumentException if they have no pages
     */
    public void advance(int tokens) {
        requireOpen();
        int next = Math.addExact(length, tokens);
        if (tokens < 0 || pool.options().pagesOf(next) > pageCount) {
            throw new IllegalArgumentException(
                    "%d more tokens behind %d; the sequence has %d pages of %d tokens"
                            .formatted(tokens, length, pageCount, pool.options().pageTokens()));
        }
        length = next;
        longest = Math.max(longest, length);
    }

    /**
     * Forgets the last tokens and gives back the pages that none of the others needs.
     *
     * @param tokens how many stay; with a recent window at least the longest length so far less
     *     {@link #MAX_SHORTENING}, since the window holds no older ones
     * @throws IllegalArgumentException if there are not so many, or the window does not allow it
     */
    public void truncate(int tokens) {
        requireOpen();
        if (tokens < 0 || tokens > length) {
            throw new IllegalArgumentException(
                    "%d tokens of %d cannot stay".formatted(tokens, length));
        }
        int least = pool.options().windowTokens() == 0 ? 0 : longest - MAX_SHORTENING;
        if (tokens < least) {
            throw new IllegalArgumentException(
                    "%d tokens of %d shall stay; with a window, and %d at the longest, at least %d"
                            .formatted(tokens, length, longest, least));
        }
        length = tokens;
        int needed = pool.options().pagesOf(tokens);
        pool.giveBack(pages, needed, pageCount);
        pageCount = needed;
    }

    /** Tokens that are stored. */
    public int length() {
        return length;
    }

    /** Which block of the recent store it has. */
    public int recentIndex() {
        return recentIndex;
    }

    /** How many pages it has. */
    public int pageCount() {
        return pageCount;
    }

    /** The number of its page {@code index}, in the order of its tokens. */
    public int page(int index) {
        return pages[Objects.checkIndex(index, pageCount)];
    }

    int[] pages() {
        requireOpen();
        return pages;
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException(
                    "the sequence of %d tokens is closed".formatted(length));
        }
    }

    /** Gives everything back to the pool; work that uses it must have been queued. Idempotent. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            pool.giveBack(pages, 0, pageCount);
            pool.giveBackSequence(recentIndex);
            pageCount = 0;
        }
    }
}
