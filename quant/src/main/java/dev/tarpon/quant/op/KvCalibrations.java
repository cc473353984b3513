package dev.tarpon.quant.op;

import dev.tarpon.Device;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;
import dev.tarpon.quant.kv.KeyStatistics;
import dev.tarpon.quant.kv.ModelCalibration;

import java.io.IOException;

/** What the operations on the cache know of keys beforehand. */
final class KvCalibrations {
    private KvCalibrations() {}

    /**
     * From a file of calibrate-kv if one is given; else from the input: k_mean and k_order as they
     * are, or calibration [tokens, kv_heads, head_dim], keys of other tokens, of which both are
     * made. The mean serves mode TARPON, the order mode ROTATEKV; the other is not used.
     */
    static KvCalibration read(Device device, TensorInputs inputs, HostTensor k, KvOptions options)
            throws IOException {
        int heads = Math.toIntExact(k.dimension(1));
        int headDim = Math.toIntExact(k.dimension(2));
        KvMode mode = options.format().mode();
        boolean given = inputs.has("k_mean") || inputs.has("k_order");
        if (options.calibration() != null) {
            if (given || inputs.has("calibration")) {
                throw inputs.failure("has a calibration, and a calibration file is given, too");
            }
            ModelCalibration model = ModelCalibration.load(options.calibration());
            model.requireLayer(options.layer(), heads, headDim);
            return model.forCache(options.layer(), mode);
        }
        if (inputs.has("calibration")) {
            if (given) {
                throw inputs.failure("has calibration keys, and k_mean or k_order, too");
            }
            HostTensor keys = inputs.filled("calibration", OpTensors.FLOATS);
            inputs.requireShape(keys, "as k", keys.dimension(0), heads, headDim);
            var statistics = new KeyStatistics(heads, headDim);
            statistics.add(keys.toFloats());
            return mode == KvMode.TARPON
                    ? KvCalibration.ofMean(statistics.mean())
                    : KvCalibration.ofOrder(KeyStatistics.order(statistics.rotatedMean(device)));
        }
        if (mode == KvMode.TARPON && inputs.has("k_mean")) {
            HostTensor mean = inputs.tensor("k_mean", OpTensors.FLOATS);
            inputs.requireShape(mean, "heads and channels of k", heads, headDim);
            return KvCalibration.ofMean(mean.toFloats());
        }
        if (mode == KvMode.ROTATEKV && inputs.has("k_order")) {
            HostTensor order = inputs.tensor("k_order", ElementType.I32);
            inputs.requireShape(order, "all channels of k", (long) heads * headDim);
            return KvCalibration.ofOrder(order.toInts());
        }
        return KvCalibration.NONE;
    }
}
