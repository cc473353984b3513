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
 * @param sinkTokens first tokens that are kept in 16 bits
 * @param windowTokens last tokens that are kept in 16 bits
 */
public record KvFormat(KvMode mode, int keyBits, int valueBits, int sinkTokens, int windowTokens) {
    /** What others are compared with: binary16 throughout. */
    public static final KvFormat HALF = new KvFormat(KvMode.TARPON, 16, 16, 0, 0);

    /** The same for keys and values. */
    public KvFormat(KvMode mode, int bits, int sinkTokens) {
        this(mode, bits, bits, sinkTokens, 0);
    }

    /** Options with this choice. */
    public KvCacheOptions.Builder apply(KvCacheOptions.Builder builder) {
        return builder.mode(mode).bits(keyBits, valueBits).recent(sinkTokens, windowTokens);
    }

    /** Such as "tarpon K4V2". */
    public String label() {
        return keyBits == 16 && valueBits == 16
                ? "16 bits"
                : "%s K%dV%d".formatted(mode.name().toLowerCase(Locale.ROOT), keyBits, valueBits);
    }
}
