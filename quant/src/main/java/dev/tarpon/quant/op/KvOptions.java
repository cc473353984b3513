package dev.tarpon.quant.op;

import dev.tarpon.kv.RopeLayout;
import dev.tarpon.quant.kv.KvFormat;

import java.nio.file.Path;

/**
 * What kv-roundtrip and kv-attend are told.
 *
 * @param format mode, widths and what is kept in 16 bits
 * @param sinkPositions where the tokens are that are kept in 16 bits as sinks; null: the first ones
 * @param ropeTheta base of the rotary frequencies
 * @param ropeLayout which channels turn together
 * @param pageTokens tokens of a page
 * @param calibration a file of calibrate-kv; null if the input has what there is
 * @param layer whose calibration in that file
 */
public record KvOptions(
        KvFormat format,
        int[] sinkPositions,
        double ropeTheta,
        RopeLayout ropeLayout,
        int pageTokens,
        Path calibration,
        int layer) {}
