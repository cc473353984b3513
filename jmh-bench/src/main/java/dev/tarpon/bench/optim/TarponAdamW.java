package dev.tarpon.bench.optim;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.DeviceOptions;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.optim.Optimizer;
import dev.tarpon.optim.OptimizerOptions;
import dev.tarpon.optim.Parameter;
import dev.tarpon.optim.ParameterGroup;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.util.List;

/** Tarpon's step on the CPU, through the public API. */
final class TarponAdamW implements AdamW {
    private final Device device;
    private final Stream stream;
    private final Tensor value;
    private final Optimizer optimizer;

    TarponAdamW(StateFormat format, int threads, float[] parameter, float[] gradient) {
        device = Device.open(DeviceKind.CPU, 0, new DeviceOptions(threads));
        stream = device.createStream();
        value = device.allocate(DType.F32, parameter.length).copyFrom(parameter);
        Tensor grad = device.allocate(DType.F32, gradient.length).copyFrom(gradient);
        // Every size has the format that is measured.
        Parameter p = new Parameter("p", value, grad).withStateFormat(format);
        optimizer =
                Optimizer.create(
                        device,
                        new OptimizerOptions(UpdateRule.ADAMW),
                        List.of(new ParameterGroup(List.of(p))));
        optimizer.hyperparameters().lr(LR).beta1(BETA1).beta2(BETA2).eps(EPS);
        optimizer.hyperparameters().weightDecay(WEIGHT_DECAY);
    }

    @Override
    public void step() {
        optimizer.step(stream);
        stream.synchronize();
    }

    @Override
    public float[] parameter() {
        return value.toFloatArray();
    }

    @Override
    public void close() {
        device.close();
    }
}
