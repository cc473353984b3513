/**
 * Text generation with a Llama-style model: 4-bit linear layers and a quantised KV cache, both
 * through the library's kernels.
 */
package dev.tarpon.quant.generate;
