package dev.tarpon.quant.kvreport;

/**
 * What a scheme has made of keys and values.
 *
 * @param keys after rotary positions [tokens, keyValueHeads, headDim]
 * @param values as keys
 * @param bits of a value, with all scales, minima and zero points in binary16
 */
record Coded(float[] keys, float[] values, double bits) {}
