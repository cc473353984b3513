package dev.tarpon.kv;

/**
 * What a layer of a model brings along for its cache. Every part may be null. The arrays belong to
 * the record from then on: nobody writes to them.
 *
 * @param keyMean mean of the keys before rotary positions over a calibration text, [keyValueHeads *
 *     headDim]; mode TARPON only. Pairs of channels whose means are zero cost nothing in attention,
 *     so small ones are best set to zero
 * @param keyOrder permutation of all channels of the rotated key, [keyValueHeads * headDim]:
 *     channel c of the stored key is channel keyOrder[c] of the rotated one; mode ROTATEKV only
 * @param queryNorm weight of the RMS norm over each head of queries, [headDim]
 * @param keyNorm weight of the RMS norm over each head of keys, [headDim]; keyMean and keyOrder are
 *     of the keys behind it
 * @param normEpsilon added to the mean square in both norms
 */
public record KvCalibration(
        float[] keyMean, int[] keyOrder, float[] queryNorm, float[] keyNorm, float normEpsilon) {
    /** Nothing is known. */
    public static final KvCalibration NONE = new KvCalibration(null, null, null, null, 0);

    /** A mean for mode TARPON. */
    public static KvCalibration ofMean(float[] keyMean) {
        return new KvCalibration(keyMean, null, null, null, 0);
    }

    /** An order for mode ROTATEKV. */
    public static KvCalibration ofOrder(int[] keyOrder) {
        return new KvCalibration(null, keyOrder, null, null, 0);
    }
}
