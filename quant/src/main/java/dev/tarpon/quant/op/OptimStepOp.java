package dev.tarpon.quant.op;

import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.optim.Optimizer;
import dev.tarpon.optim.OptimizerCounters;
import dev.tarpon.optim.OptimizerOptions;
import dev.tarpon.optim.Parameter;
import dev.tarpon.optim.ParameterGroup;
import dev.tarpon.optim.ParameterState;
import dev.tarpon.optim.UpdateRule;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;

/** Steps of an optimizer from one safetensors file to another. */
public final class OptimStepOp {
    private OptimStepOp() {}

    /**
     * optim-step: T steps of param, in any shape of n elements, with the rows of grads [T, n].
     *
     * <p>Writes param, and for each state of the rule stateI and, unless it has 32 bits, absmaxI;
     * and the counters as metadata.
     */
    public static void run(Device device, Path in, Path out, OptimStepOptions options)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor param = inputs.filled("param", OpTensors.FLOATS);
            HostTensor grads = inputs.matrix("grads", OpTensors.FLOATS);
            if (grads.dimension(1) != param.elements()) {
                throw inputs.failure(
                        "grads",
                        "has shape %s, but param has %d elements",
                        Shapes.text(grads.shape()),
                        param.elements());
            }
            try (Stream stream = device.createStream();
                    Tensor value = OpTensors.upload(device, param);
                    Tensor gradient =
                            device.allocate(OpTensors.dtype(grads.type()), param.elements())) {
                Parameter parameter =
                        new Parameter(
                                "param",
                                value,
                                gradient,
                                null,
                                options.stateFormat(),
                                options.momentum());
                try (Optimizer optimizer =
                        Optimizer.create(
                                device,
                                new OptimizerOptions(options.rule()),
                                List.of(new ParameterGroup(List.of(parameter))))) {
                    options.hyperparameters().accept(optimizer.hyperparameters());
                    step(optimizer, gradient, grads, options, stream);
                    SafetensorsWriter writer = describe(device, optimizer);
                    writer.add(OpTensors.download(arena, "param", value, stream));
                    addStates(writer, optimizer.states().getFirst(), arena, stream);
                    writer.write(out);
                }
            }
        }
    }

    private static void step(
            Optimizer optimizer,
            Tensor gradient,
            HostTensor grads,
            OptimStepOptions options,
            Stream stream) {
        long rowBytes = gradient.sizeBytes();
        boolean hessian = options.rule() == UpdateRule.SOPHIAG && options.hessianEvery() > 0;
        for (long t = 0; t < grads.dimension(0); t++) {
            MemorySegment row = grads.data().asSlice(t * rowBytes, rowBytes);
            gradient.copyFrom(row, stream);
            if (hessian && t % options.hessianEvery() == 0) {
                optimizer.refreshHessian(stream);
            }
            optimizer.step(stream);
        }
    }

    private static void addStates(
            SafetensorsWriter writer, ParameterState state, Arena arena, Stream stream) {
        for (int i = 0; i < state.states().size(); i++) {
            Tensor tensor = state.states().get(i);
            writer.add(OpTensors.download(arena, "state" + (i + 1), tensor, stream));
        }
        for (int i = 0; i < state.absmax().size(); i++) {
            Tensor tensor = state.absmax().get(i);
            writer.add(OpTensors.download(arena, "absmax" + (i + 1), tensor, stream));
        }
    }

    private static SafetensorsWriter describe(Device device, Optimizer optimizer) {
        OptimizerCounters counters = optimizer.counters();
        return new SafetensorsWriter()
                .metadata("op", "optim-step")
                .metadata("tarpon", Tarpon.version())
                .metadata("device", device.info().spec())
                .metadata("variant", optimizer.variant())
                .metadata("step", Long.toString(counters.step()))
                .metadata("skipped_steps", Long.toString(counters.skippedSteps()))
                .metadata("skipped_blocks", Long.toString(counters.skippedBlocks()));
    }
}
