package dev.tarpon.bench.linear;

import dev.tarpon.Device;
import dev.tarpon.LinearArithmetic;
import dev.tarpon.LinearOptions;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

/** Tarpon's 4-bit linear through the public Java API. */
final class TarponLinear implements LinearImplementation {
    private final Device device;
    private final Stream stream;
    private final QuantizedLinear[] plans;
    private final Tensor x;
    private final Tensor y;

    TarponLinear(LinearCase layer, SampleLayer sample, int sets, LinearArithmetic arithmetic) {
        device = layer.device().open(layer.threads());
        stream = device.createStream();
        LinearOptions options = new LinearOptions(layer.dtype(), null, arithmetic);
        plans = new QuantizedLinear[sets];
        for (int i = 0; i < sets; i++) {
            plans[i] = QuantizedLinear.create(device, sample.weights(), options);
        }
        x = device.allocate(layer.dtype(), layer.rows(), layer.inFeatures()).copyFrom(sample.x());
        y = device.allocate(layer.dtype(), layer.rows(), layer.outFeatures());
    }

    @Override
    public void run(int set) {
        plans[set].forward(x, y, stream);
    }

    @Override
    public void synchronize() {
        stream.synchronize();
    }

    @Override
    public int weightSets() {
        return plans.length;
    }

    @Override
    public float[] output() {
        return y.toFloatArray();
    }

    @Override
    public void close() {
        y.close();
        x.close();
        for (QuantizedLinear plan : plans) {
            plan.close();
        }
        stream.close();
        device.close();
    }
}
