/**
 * Trains a small Llama-style language model over bytes, as an example of {@link dev.tarpon.optim}:
 * forward and backward in plain Java, every step through the library.
 *
 * <p>Start with {@link dev.tarpon.quant.train.Training}.
 */
package dev.tarpon.quant.train;
