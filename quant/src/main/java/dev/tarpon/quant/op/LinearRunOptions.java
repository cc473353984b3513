package dev.tarpon.quant.op;

import dev.tarpon.LinearMode;
import dev.tarpon.Sparsity;

/**
 * How a product is computed.
 *
 * @param variant the kernel to use; null lets the library choose
 * @param mode fast, or batch-invariant
 * @param sparsity a pattern of zeros that the kernel may rely on
 */
public record LinearRunOptions(String variant, LinearMode mode, Sparsity sparsity) {}
