package dev.tarpon.quant.op;

import dev.tarpon.BlockwiseQuantizer;
import dev.tarpon.CodeMap;
import dev.tarpon.format.ElementType;

/**
 * What a command line says about block-wise quantisation; null is what it does not say.
 *
 * @param map the map of codes
 * @param block values that share an absmax
 * @param n the number of values, where codes of 4 bits leave it open
 * @param type of the dequantised values
 */
public record BlockwiseOptions(CodeMap map, Integer block, Long n, ElementType type) {
    /** As 8-bit optimizers quantise their states. */
    public static final int DEFAULT_BLOCK = 256;

    BlockwiseQuantizer quantizer() {
        return new BlockwiseQuantizer(
                map == null ? CodeMap.DYNAMIC_SIGNED : map, block == null ? DEFAULT_BLOCK : block);
    }
}
