package dev.tarpon.quant.train;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;
import dev.tarpon.optim.Optimizer;
import dev.tarpon.optim.OptimizerCounters;
import dev.tarpon.optim.OptimizerOptions;
import dev.tarpon.optim.Parameter;
import dev.tarpon.optim.ParameterGroup;
import dev.tarpon.optim.StateFormat;
import dev.tarpon.optim.UpdateRule;
import dev.tarpon.quant.llama.LlamaNames;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Steps a {@link TrainableLlama} through the library: gradients go to the device, parameters come
 * back. Matrices are decayed, norms are not.
 */
final class ModelOptimizer implements AutoCloseable {
    /** A parameter in Java and on the device. */
    private record Pair(TrainableParameter host, Tensor value, Tensor gradient) {}

    private final TrainableLlama model;
    private final List<Pair> pairs = new ArrayList<>();
    private final Arena arena = Arena.ofShared();
    private final MemorySegment staging;
    private Stream stream;
    private Optimizer optimizer;

    /**
     * Takes the parameters over as they are.
     *
     * @param seed of stochastic rounding
     */
    ModelOptimizer(Device device, TrainableLlama model, OptimizerSettings settings, long seed) {
        this.model = model;
        long largest =
                model.parameters().stream()
                        .mapToLong(host -> (long) host.rows() * host.columns())
                        .max()
                        .orElseThrow();
        staging = arena.allocate(largest * Float.BYTES, Float.BYTES);
        try {
            stream = device.createStream();
            List<Parameter> decayed = new ArrayList<>();
            List<Parameter> plain = new ArrayList<>();
            for (TrainableParameter host : model.parameters()) {
                (host.isMatrix() ? decayed : plain).add(parameter(device, host, settings));
            }
            optimizer =
                    Optimizer.create(
                            device,
                            new OptimizerOptions(settings.rule(), settings.state()),
                            List.of(
                                    new ParameterGroup(decayed),
                                    new ParameterGroup(plain).withoutDecay()));
            settings.apply(optimizer.hyperparameters());
            optimizer.hyperparameters().seed(seed);
            if (settings.rule() == UpdateRule.SOPHIAG) {
                optimizer.hyperparameters().hessianScale(model.tokens());
            }
            upload();
        } catch (RuntimeException | Error failure) {
            close();
            throw failure;
        }
    }

    private Parameter parameter(
            Device device, TrainableParameter host, OptimizerSettings settings) {
        Tensor value = device.allocate(DType.F32, host.rows(), host.columns());
        Tensor gradient;
        try {
            gradient = device.allocate(DType.F32, host.rows(), host.columns());
        } catch (RuntimeException | Error failure) {
            value.close();
            throw failure;
        }
        pairs.add(new Pair(host, value, gradient));
        var parameter = new Parameter(host.name(), value, gradient);
        if (settings.embeddingState32() && host.name().equals(LlamaNames.EMBEDDING)) {
            parameter = parameter.withStateFormat(StateFormat.F32);
        }
        if (settings.rule() == UpdateRule.SCALE && host.name().equals(LlamaNames.OUTPUT)) {
            parameter = parameter.withMomentum();
        }
        return parameter;
    }

    /** One step with the gradients of the model's last backward pass. */
    void step(double learningRate) {
        uploadGradients();
        optimizer.step(learningRate, stream);
        for (Pair pair : pairs) {
            copyOut(pair.value(), pair.host().value());
        }
        model.refresh();
    }

    /** Sophia-G: takes the gradients of the last backward pass as a sample of the curvature. */
    void refreshHessian() {
        uploadGradients();
        optimizer.refreshHessian(stream);
    }

    /** Takes over what the model's parameters have become in Java. */
    void upload() {
        for (Pair pair : pairs) {
            copyIn(pair.host().value(), pair.value());
        }
    }

    private void uploadGradients() {
        for (Pair pair : pairs) {
            copyIn(pair.host().gradient(), pair.gradient());
        }
    }

    private void copyIn(float[][] rows, Tensor tensor) {
        long at = 0;
        for (float[] row : rows) {
            MemorySegment.copy(row, 0, staging, ValueLayout.JAVA_FLOAT, at, row.length);
            at += (long) row.length * Float.BYTES;
        }
        tensor.copyFrom(staging.asSlice(0, at), stream);
    }

    private void copyOut(Tensor tensor, float[][] rows) {
        tensor.copyTo(staging.asSlice(0, tensor.sizeBytes()), stream);
        long at = 0;
        for (float[] row : rows) {
            MemorySegment.copy(staging, ValueLayout.JAVA_FLOAT, at, row, 0, row.length);
            at += (long) row.length * Float.BYTES;
        }
    }

    /** What the states take on the device. */
    long stateBytes() {
        return optimizer.stateBytes();
    }

    OptimizerCounters counters() {
        return optimizer.counters();
    }

    /** Writes states, counters and hyperparameters, but no parameters. */
    void save(Path file) throws IOException {
        optimizer.save(file);
    }

    /** Takes over what {@link #save} wrote. */
    void load(Path file) throws IOException {
        optimizer.load(file);
    }

    @Override
    public void close() {
        if (optimizer != null) {
            optimizer.close();
        }
        for (Pair pair : pairs) {
            pair.value().close();
            pair.gradient().close();
        }
        if (stream != null) {
            stream.close();
        }
        arena.close();
    }
}
