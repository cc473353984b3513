/**
 * Optimizers with 8-bit states: Adam, AdamW, SGD, RMSprop, Adagrad, Lion, AdEMAMix, LAMB, LARS,
 * AdaBelief, Sophia-G and SCALE.
 *
 * <p>Start with {@link dev.tarpon.optim.Optimizer}. Quantised states take a quarter of the memory
 * of 32-bit ones; parameters below 4096 elements keep 32-bit states, and so should embeddings, by
 * {@link dev.tarpon.optim.Parameter#withStateFormat} or as a {@link
 * dev.tarpon.optim.StableEmbedding}. {@link dev.tarpon.optim.Optimizer#save} and {@link
 * dev.tarpon.optim.Optimizer#load} keep states in safetensors.
 *
 * <p>Lifetime, errors and devices are as in {@link dev.tarpon}.
 */
package dev.tarpon.optim;
