/**
 * Llama-style language models in Hugging Face's layout: configuration and weights.
 *
 * <p>Start with {@link dev.tarpon.quant.llama.LlamaWeights#load}.
 */
package dev.tarpon.quant.llama;
