package dev.tarpon.quant.op;

import java.util.Locale;

/** How a checkpoint holds the weight of a linear layer, as --format names it. */
public enum CheckpointFormat {
    /** B i32 [Kp/16, 2*Np] and s f16 [G, Np], as the original packer names them. */
    MARLIN,
    /** qweight, qzeros (less one), scales and g_idx. */
    GPTQ,
    /** The same with qzeros as they are. */
    GPTQ_V2,
    /** qweight, qzeros and scales in AWQ's interleaved order. */
    AWQ,
    /** Blocks of a GGUF file. */
    GGUF,
    /** codes, scales, zeros and g_idx in plain order. */
    PLAIN;

    /** The name on the command line. */
    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
