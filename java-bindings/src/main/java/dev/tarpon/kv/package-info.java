/**
 * A KV cache in 2 to 16 bits: keys and values rotated by a Hadamard matrix, stored in pages that
 * the inference engine owns, and attended as they are stored.
 *
 * <p>Start with {@link dev.tarpon.kv.KvCache}, the plan, which has no tokens in it. Tokens lie in
 * device memory, a tensor of pages for each layer; {@link dev.tarpon.kv.KvPagePool} hands pages out
 * to sequences, for engines that have no pool of their own, and {@link dev.tarpon.kv.KvBatch} says
 * what one step appends and attends.
 *
 * <p>Lifetime, errors and devices are as in {@link dev.tarpon}.
 */
package dev.tarpon.kv;
