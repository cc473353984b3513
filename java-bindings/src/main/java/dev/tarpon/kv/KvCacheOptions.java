package dev.tarpon.kv;

import dev.tarpon.DType;

import java.util.Objects;

/**
 * Shape, widths and rules of a cache. What is legal is the library's to say, and {@link
 * KvCache#create} reports it.
 *
 * @param mode how keys and values are coded
 * @param headDim channels of a head: 64, 96, 128 or 256
 * @param queryHeads 1 to 16 times keyValueHeads
 * @param keyValueHeads heads of keys and values
 * @param pageTokens tokens of a page: 64 or 128
 * @param keyBits 2, 3, 4, 8 or 16
 * @param valueBits 2, 3, 4, 8 or 16
 * @param sinkTokens most tokens of a sequence that are kept in 16 bits as sinks, its first ones or
 *     those of a {@link KvSinks}: 0..256
 * @param windowTokens last tokens of a sequence that are kept in 16 bits: 0..1024
 * @param dtype of queries, keys, values and outputs: F32, F16 or BF16
 * @param ropeDim channels that rotary positions turn, the first ones of a head; 0 for none
 * @param ropeLayout which of them turn together
 * @param ropeTheta base of the frequencies, such as 10000
 * @param ropeScaling positions are divided by it; 1 for none
 * @param maxTokens longest sequence
 * @param slidingWindow keys that a query sees, its own included; 0 for all
 * @param scoreScale of query times key; 0 for 1 / sqrt(headDim)
 * @param softcap scores become softcap * tanh(score / softcap); 0 for off
 */
public record KvCacheOptions(
        KvMode mode,
        int headDim,
        int queryHeads,
        int keyValueHeads,
        int pageTokens,
        int keyBits,
        int valueBits,
        int sinkTokens,
        int windowTokens,
        DType dtype,
        int ropeDim,
        RopeLayout ropeLayout,
        double ropeTheta,
        double ropeScaling,
        int maxTokens,
        int slidingWindow,
        double scoreScale,
        double softcap) {
    /** Checks that nothing is null. */
    public KvCacheOptions {
        Objects.requireNonNull(mode, "mode");
        Objects.requireNonNull(dtype, "dtype");
        Objects.requireNonNull(ropeLayout, "ropeLayout");
    }

    /**
     * A builder with the defaults: mode TARPON, 2 bits, 4 sinks and no window, pages of 64 tokens,
     * F32, rotary positions over all channels in the half layout with base 10000, 4096 tokens.
     */
    public static Builder builder(int headDim, int queryHeads, int keyValueHeads) {
        return new Builder(headDim, queryHeads, keyValueHeads);
    }

    /** The same options to start another build from. */
    public Builder toBuilder() {
        var builder = new Builder(headDim, queryHeads, keyValueHeads);
        builder.mode = mode;
        builder.pageTokens = pageTokens;
        builder.keyBits = keyBits;
        builder.valueBits = valueBits;
        builder.sinkTokens = sinkTokens;
        builder.windowTokens = windowTokens;
        builder.dtype = dtype;
        builder.ropeDim = ropeDim;
        builder.ropeLayout = ropeLayout;
        builder.ropeTheta = ropeTheta;
        builder.ropeScaling = ropeScaling;
        builder.maxTokens = maxTokens;
        builder.slidingWindow = slidingWindow;
        builder.scoreScale = scoreScale;
        builder.softcap = softcap;
        return builder;
    }

    /** Pages that so many tokens take. */
    public int pagesOf(int tokens) {
        return Math.ceilDiv(tokens, pageTokens);
    }

    /** Values of all heads of keys, and of values, of one token. */
    public int keyValueWidth() {
        return keyValueHeads * headDim;
    }

    /** Values of all query heads of one token. */
    public int queryWidth() {
        return queryHeads * headDim;
    }

    /** Collects options; not thread-safe. */
    public static final class Builder {
        private final int headDim;
        private final int queryHeads;
        private final int keyValueHeads;
        private KvMode mode = KvMode.TARPON;
        private int pageTokens = 64;
        private int keyBits = 2;
        private int valueBits = 2;
        private int sinkTokens = 4;
        private int windowTokens;
        private DType dtype = DType.F32;
        private int ropeDim;
        private RopeLayout ropeLayout = RopeLayout.HALF;
        private double ropeTheta = 10000;
        private double ropeScaling = 1;
        private int maxTokens = 4096;
        private int slidingWindow;
        private double scoreScale;
        private double softcap;

        private Builder(int headDim, int queryHeads, int keyValueHeads) {
            this.headDim = headDim;
            this.queryHeads = queryHeads;
            this.keyValueHeads = keyValueHeads;
            this.ropeDim = headDim;
        }

        public Builder mode(KvMode value) {
            mode = value;
            return this;
        }

        public Builder pageTokens(int value) {
            pageTokens = value;
            return this;
        }

        /** Bits of a key's and of a value's element. */
        public Builder bits(int keys, int values) {
            keyBits = keys;
            valueBits = values;
            return this;
        }

        /** First and last tokens of a sequence that are kept in 16 bits. */
        public Builder recent(int sinks, int window) {
            sinkTokens = sinks;
            windowTokens = window;
            return this;
        }

        public Builder dtype(DType value) {
            dtype = value;
            return this;
        }

        /** Rotary positions over the first {@code dim} channels; 0 turns them off. */
        public Builder rope(int dim, RopeLayout layout, double theta, double scaling) {
            ropeDim = dim;
            ropeLayout = layout;
            ropeTheta = theta;
            ropeScaling = scaling;
            return this;
        }

        /** Rotary positions of this base over all channels, in the half layout. */
        public Builder ropeTheta(double theta) {
            return rope(headDim, RopeLayout.HALF, theta, 1);
        }

        public Builder maxTokens(int value) {
            maxTokens = value;
            return this;
        }

        public Builder slidingWindow(int value) {
            slidingWindow = value;
            return this;
        }

        public Builder scoreScale(double value) {
            scoreScale = value;
            return this;
        }

        public Builder softcap(double value) {
            softcap = value;
            return this;
        }

        public KvCacheOptions build() {
            return new KvCacheOptions(
                    mode,
                    headDim,
                    queryHeads,
                    keyValueHeads,
                    pageTokens,
                    keyBits,
                    valueBits,
                    sinkTokens,
                    windowTokens,
                    dtype,
                    ropeDim,
                    ropeLayout,
                    ropeTheta,
                    ropeScaling,
                    maxTokens,
                    slidingWindow,
                    scoreScale,
                    softcap);
        }
    }
}
