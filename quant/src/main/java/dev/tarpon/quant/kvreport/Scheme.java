package dev.tarpon.quant.kvreport;

import dev.tarpon.kv.KvMode;

/** The schemes that are compared. */
public enum Scheme {
    /** Round to nearest for each token, in groups of 128 channels, with scale and minimum. */
    PLAIN("plain per token", null),
    /**
     * Liu et al., "KIVI" (ICML 2024): keys for each channel over groups of 128 tokens, values for
     * each token. Its window of recent tokens in 16 bits is left out for all schemes alike.
     */
    KIVI("KIVI", null),
    /**
     * Ashkboos et al., "QuaRot" (NeurIPS 2024): a Hadamard rotation of each head after rotary
     * positions, then for each token with scale and zero point.
     */
    QUAROT("QuaRot-style", null),
    /** The library's mode ROTATEKV, with the sinks that mode TARPON has. */
    ROTATEKV("rotatekv", KvMode.ROTATEKV),
    /**
     * The same with the publication's sinks: tokens with massive activations in a layer's input.
     */
    ROTATEKV_MASSIVE("rotatekv, massive sinks", KvMode.ROTATEKV),
    /** The library's mode TARPON. */
    TARPON("tarpon", KvMode.TARPON);

    private final String label;
    private final KvMode mode;

    Scheme(String label, KvMode mode) {
        this.label = label;
        this.mode = mode;
    }

    /** As tables show it. */
    public String label() {
        return label;
    }

    /** The library's mode; null for those that are computed here. */
    public KvMode mode() {
        return mode;
    }
}
