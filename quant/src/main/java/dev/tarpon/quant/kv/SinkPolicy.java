package dev.tarpon.quant.kv;

/** Which tokens of a sequence a cache keeps in 16 bits as attention sinks. */
public enum SinkPolicy {
    /** The first ones, the same in all layers. */
    FIRST,
    /** Those with massive activations in a layer's input, wherever they are. */
    MASSIVE
}
