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

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Tarpon's step on any device, through the public API. */
final class TarponAdamW implements AdamW {
    private final Stream stream;
    private final List<Tensor> values = new ArrayList<>();
    private final List<Tensor> grads = new ArrayList<>();
    private final int[] borders;
    private final Optimizer optimizer;

    /**
     * @param borders where in the arrays the tensors begin, and the end of the last
     */
    TarponAdamW(
            Device device, StateFormat format, float[] parameter, float[] gradient, int[] borders) {
        this.borders = borders;
        stream = device.createStream();
        List<Parameter> parameters = new ArrayList<>();
        for (int i = 0; i + 1 < borders.length; i++) {
            Tensor value = copy(device, parameter, borders[i], borders[i + 1]);
            Tensor grad = copy(device, gradient, borders[i], borders[i + 1]);
            values.add(value);
            grads.add(grad);
            // Every size has the format that is measured.
            parameters.add(new Parameter("p" + i, value, grad).withStateFormat(format));
        }
        optimizer =
                Optimizer.create(
                        device,
                        new OptimizerOptions(UpdateRule.ADAMW),
                        List.of(new ParameterGroup(parameters)));
        optimizer.hyperparameters().lr(LR).beta1(BETA1).beta2(BETA2).eps(EPS);
        optimizer.hyperparameters().weightDecay(WEIGHT_DECAY);
    }

    private static Tensor copy(Device device, float[] all, int first, int end) {
        return device.allocate(DType.F32, end - first)
                .copyFrom(Arrays.copyOfRange(all, first, end));
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
        float[] all = new float[borders[borders.length - 1]];
        for (int i = 0; i < values.size(); i++) {
            float[] part = values.get(i).toFloatArray();
            System.arraycopy(part, 0, all, borders[i], part.length);
        }
        return all;
    }

    @Override
    public void close() {
        optimizer.close();
        grads.forEach(Tensor::close);
        values.forEach(Tensor::close);
        stream.close();
    }
}
