/**
 * The KV cache for a model as a whole: calibration, snapshots, and what a cache does to a model's
 * accuracy. The cache itself is {@link dev.tarpon.kv}.
 */
package dev.tarpon.quant.kv;
