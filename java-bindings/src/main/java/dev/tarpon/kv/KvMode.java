package dev.tarpon.kv;

import dev.tarpon.ffi.tarpon_kv_h;

/** How keys and values are transformed and coded. */
public enum KvMode {
    /**
     * Keys are rotated after rotary positions, which attention absorbs in the query; a calibrated
     * mean is taken off; a symmetric grid with one binary16 scale for each token and head.
     */
    TARPON(tarpon_kv_h.TARPON_KV_MODE_TARPON),
    /**
     * As published in Su et al., "RotateKV" (IJCAI 2025): keys rotated before rotary positions over
     * groups of heads, channels reordered by calibration, minimum and maximum with a zero point.
     * Attention turns every key back, which costs several times what {@link #TARPON} does.
     */
    ROTATEKV(tarpon_kv_h.TARPON_KV_MODE_ROTATEKV);

    private final int id;

    KvMode(int id) {
        this.id = id;
    }

    /** The constant in tarpon.h. */
    public int id() {
        return id;
    }
}
