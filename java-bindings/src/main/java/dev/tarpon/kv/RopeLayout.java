package dev.tarpon.kv;

import dev.tarpon.ffi.tarpon_kv_h;

/** Which channels of a head rotary positions turn together. */
public enum RopeLayout {
    /** Channels i and i + ropeDim / 2, as Llama and GPT-NeoX have it. */
    HALF(tarpon_kv_h.TARPON_ROPE_HALF),
    /** Channels 2i and 2i + 1, as GPT-J has it. */
    INTERLEAVED(tarpon_kv_h.TARPON_ROPE_INTERLEAVED);

    private final int id;

    RopeLayout(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
