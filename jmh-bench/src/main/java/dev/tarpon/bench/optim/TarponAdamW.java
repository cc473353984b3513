package dev.tarpon.bench.optim;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.optim.Optimizer;
import dev.tarpon.optim.OptimizerOptions;
import dev.tarpon.optim.Parameter;
import dev.tarpon.optim.ParameterGroup;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;

import java.util.List;

/** Tarpon's step on any device, through the public API. */
final class TarponAdamW implements AdamW {
    private final Stream stream;
    private final Tensor value;
    private final Tensor grad;
    private final Optimizer optimizer;

    TarponAdamW(Device device, StateFormat format, float[] parameter, float[] gradient) {
        stream = device.createStream();
        value = device.allocate(DType.F32, parameter.length).copyFrom(parameter);
        grad = device.allocate(DType.F32, gradient.length).copyFrom(gradient);
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
    }

    @Override
    public void synchronize() {
        stream.synchronize();
    }

    @Override
    public float[] parameter() {
        return value.toFloatArray();
    }

    @Override
    public void close() {
        optimizer.close();
        grad.close();
        value.close();
        stream.close();
    }
}
