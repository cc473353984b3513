package dev.tarpon.quant.kv;

import dev.tarpon.kv.KvCacheOptions;
import dev.tarpon.kv.KvMode;

import java.util.Locale;

/**
 * What a user chooses of a cache; the rest is the model's.
 *
 * @param mode how keys and values are coded
 * @param keyBits 2, 3, 4, 8 or 16
 * @param valueBits 2, 3, 4, 8 or 16
 * @param sinkTokens tokens that are kept in 16 bits as attention sinks, at most
 * @param windowTokens last tokens that are kept in 16 bits
 * @param sinks which tokens the sinks are
 */
public record KvFormat(
        KvMode mode,
        int keyBits,
        int valueBits,
        int sinkTokens,
        int windowTokens,
        SinkPolicy sinks) {
    /** What others are compared with: binary16 throughout. */
    public static final KvFormat HALF = new KvFormat(KvMode.TARPON, 16, 16, 0, 0);

    /** With the first tokens as sinks. */
    public KvFormat(KvMode mode, int keyBits, int valueBits, int sinkTokens, int windowTokens) {
        this(mode, keyBits, valueBits, sinkTokens, windowTokens, SinkPolicy.FIRST);
    }

    /** The same for keys and values, with the first tokens as sinks. */
    public KvFormat(KvMode mode, int bits, int sinkTokens) {
        this(mode, bits, bits, sinkTokens, 0);
    }

    /** The same for keys and values, with massive activations as sinks. */
    public static KvFormat ofMassiveSinks(KvMode mode, int bits) {
        return new KvFormat(mode, bits, bits, MassiveActivations.ENTRIES, 0, SinkPolicy.MASSIVE);
    }

    /** Options with this choice. */
    public KvCacheOptions.Builder apply(KvCacheOptions.Builder builder) {
        return builder.mode(mode).bits(keyBits, valueBits).recent(sinkTokens, windowTokens);
    }

    /** Such as "tarpon K4V2". */
    public String label() {
        return keyBits == 16 && valueBits == 16
                ? "16 bits"
                : "%s K%dV%d%s"
                        .formatted(
                                mode.name().toLowerCase(Locale.ROOT),
                                keyBits,
                                valueBits,
                                sinks == SinkPolicy.MASSIVE ? ", massive sinks" : "");
    }
}
