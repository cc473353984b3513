package dev.tarpon.quant.op;

/**
 * What a command line says about a weight; null where it says nothing.
 *
 * @param bits bits per weight
 * @param group input features that share a scale, or -1 for all
 * @param n output features
 * @param k input features
 * @param form which form to take where a file holds several
 * @param prune whether to prune a weight to 2:4 before it is quantised
 */
public record WeightOptions(
        int bits, Integer group, Long n, Long k, WeightForm form, boolean prune) {
    /** The group if neither the command line nor the file says. */
    public static final int DEFAULT_GROUP = 128;
}
