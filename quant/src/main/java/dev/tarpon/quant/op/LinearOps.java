package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.LinearArithmetic;
import dev.tarpon.LinearOptions;
import dev.tarpon.LinearPart;
import dev.tarpon.MarlinWeights;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.TarponException;
import dev.tarpon.Tensor;
import dev.tarpon.WeightType;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.quant.format.GgufFile;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;

/** The operations on quantised linear layers, each from one safetensors file to another. */
public final class LinearOps {
    private LinearOps() {}

    /**
     * linear-pack: a weight, or one of a checkpoint's formats, to MARLIN order.
     *
     * <p>Writes qweight i32 [Kp/16, 2*Np] and scales_packed f16 [G, Np], where Kp and Np are K and
     * N rounded up to 16 and 64; codes u8 [K, N] and scales f16 [G, N] in plain order; and n, k,
     * group and bits as metadata.
     *
     * @throws FormatException for a weight that MARLIN order cannot hold
     */
    public static void pack(Path in, Path out, WeightOptions options, FormatOptions format)
            throws IOException {
        QuantizedWeights weights =
                readWeight(in, options, format, WeightForm.WEIGHT, WeightForm.CODES);
        if (!weights.format().isMarlin() || weights.inputGroups().isPresent()) {
            throw new FormatException(
                    in.toString(),
                    "the weight is %s%s; MARLIN order holds INT4 SYMMETRIC weights with F16 scales"
                                    .formatted(
                                            weights.format(),
                                            weights.inputGroups().isPresent()
                                                    ? " with act-order"
                                                    : "")
                            + " and without act-order");
        }
        MarlinWeights marlin = weights.toMarlin();
        SafetensorsWriter writer = describe("linear-pack", weights);
        addPlain(writer, weights);
        long paddedK = Math.ceilDiv(weights.inFeatures(), 16L) * 16;
        long paddedN = Math.ceilDiv(weights.outFeatures(), 64L) * 64;
        long[] packed = {paddedK / 16, 2 * paddedN};
        long[] scales = {weights.groups(), paddedN};
        writer.add(new HostTensor("qweight", ElementType.I32, packed, marlin.qweight()))
                .add(new HostTensor("scales_packed", ElementType.F16, scales, marlin.scales()))
                .write(out);
    }

    /**
     * linear-unpack: MARLIN order, or one of a checkpoint's formats, to plain order: codes u8 [K,
     * N], scales [G, N], zeros [G, N] and g_idx [K] where there are any; from a checkpoint also
     * dequantized f32 [K, N].
     */
    public static void unpack(Path in, Path out, WeightOptions options, FormatOptions format)
            throws IOException {
        QuantizedWeights weights = readWeight(in, options, format, WeightForm.QWEIGHT);
        SafetensorsWriter writer = describe("linear-unpack", weights);
        addPlain(writer, weights);
        try (Arena arena = Arena.ofConfined()) {
            if (format.format() != null || GgufFile.isGguf(in)) {
                writer.add(
                        HostTensor.ofFloats(
                                arena,
                                "dequantized",
                                weights.dequantize(),
                                weights.inFeatures(),
                                weights.outFeatures()));
            }
            writer.write(out);
        }
    }

    /** linear: y = x W + bias + residual on a device. */
    public static void linear(
            Device device,
            Path in,
            Path out,
            WeightOptions options,
            FormatOptions format,
            LinearRunOptions run)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in)) {
            HostTensor x = inputs.matrix("x", ElementType.F16, ElementType.BF16, ElementType.F32);
            QuantizedWeights weights = readWeight(in, options, format, WeightForm.values());
            if (x.dimension(1) != weights.inFeatures()) {
                throw inputs.failure(
                        "x",
                        "has shape [%d, %d], but the weight has k %d",
                        x.dimension(0),
                        x.dimension(1),
                        weights.inFeatures());
            }
            HostTensor residual = residual(inputs, x, weights);
            var part = new LinearPart(weights, bias(inputs, format, weights));
            var settings =
                    new LinearOptions(
                            WeightReader.dtype(x.type()),
                            run.variant(),
                            LinearArithmetic.EXACT,
                            run.mode(),
                            run.sparsity());
            try (QuantizedLinear linear = create(inputs, device, part, settings);
                    Arena arena = Arena.ofConfined()) {
                long[] shape = {x.dimension(0), weights.outFeatures()};
                long bytes = shape[0] * shape[1] * x.type().bytes();
                MemorySegment y = arena.allocate(Math.max(1, bytes), 64).asSlice(0, bytes);
                if (bytes > 0) {
                    multiply(device, linear, x, residual, y);
                }
                describe("linear", weights)
                        .metadata("device", device.info().spec())
                        .metadata("variant", linear.variant())
                        .metadata("mode", run.mode().name())
                        .add(new HostTensor("y", x.type(), shape, y))
                        .write(out);
            }
        }
    }

    /** In the format that the command line names, in a .gguf file's, or in Tarpon's own forms. */
    private static QuantizedWeights readWeight(
            Path in, WeightOptions options, FormatOptions format, WeightForm... forms)
            throws IOException {
        Path path = format.weights() == null ? in : format.weights();
        if (GgufFile.isGguf(path)) {
            return CheckpointReader.readGguf(path, format.tensor());
        }
        try (TensorInputs inputs = TensorInputs.open(path)) {
            return format.format() == null
                    ? new WeightReader(inputs, options).read(forms)
                    : new CheckpointReader(inputs, options, format).read();
        }
    }

    /** The tensor "bias" [N] beside x or beside the weight; null if there is none. */
    private static float[] bias(TensorInputs inputs, FormatOptions format, QuantizedWeights weights)
            throws IOException {
        if (inputs.has("bias")) {
            return bias(inputs, weights);
        }
        if (format.weights() == null || GgufFile.isGguf(format.weights())) {
            return null;
        }
        try (TensorInputs beside = TensorInputs.open(format.weights())) {
            return beside.has("bias") ? bias(beside, weights) : null;
        }
    }

    private static float[] bias(TensorInputs inputs, QuantizedWeights weights)
            throws FormatException {
        HostTensor bias = inputs.tensor("bias", OpTensors.FLOATS);
        inputs.requireShape(bias, "n of the weight", weights.outFeatures());
        return bias.toFloats();
    }

    private static HostTensor residual(TensorInputs inputs, HostTensor x, QuantizedWeights weights)
            throws FormatException {
        if (!inputs.has("residual")) {
            return null;
        }
        HostTensor residual = inputs.matrix("residual", x.type());
        inputs.requireShape(residual, "as y", x.dimension(0), weights.outFeatures());
        return residual;
    }

    private static QuantizedLinear create(
            TensorInputs inputs, Device device, LinearPart part, LinearOptions options)
            throws FormatException {
        try {
            return QuantizedLinear.create(device, List.of(part), options);
        } catch (TarponException e) {
            switch (e.status()) {
                case INVALID_ARGUMENT ->
                        throw inputs.failure("the weight is refused: " + e.getMessage());
                default -> throw e;
            }
        }
    }

    private static void multiply(
            Device device,
            QuantizedLinear linear,
            HostTensor x,
            HostTensor residual,
            MemorySegment y) {
        long m = x.dimension(0);
        DType dtype = linear.activationDtype();
        try (Stream stream = device.createStream();
                Arena arena = Arena.ofConfined();
                Tensor input = device.allocate(dtype, m, linear.inFeatures());
                Tensor output = device.allocate(dtype, m, linear.outFeatures())) {
            input.copyFrom(x.aligned(arena), stream);
            if (residual == null) {
                linear.forward(input, output, stream);
            } else {
                output.copyFrom(residual.aligned(arena), stream);
                linear.forward(input, output, output, stream);
            }
            output.copyTo(y, stream);
            stream.synchronize();
        }
    }

    private static SafetensorsWriter describe(String op, QuantizedWeights weights) {
        WeightType type = weights.format().weightType();
        return new SafetensorsWriter()
                .metadata("op", op)
                .metadata("tarpon", Tarpon.version())
                .metadata("bits", Integer.toString(type.bits()))
                .metadata("weight_type", type.name())
                .metadata("zero_type", weights.format().zeroType().name())
                .metadata("group", Integer.toString(weights.groupSize()))
                .metadata("k", Long.toString(weights.inFeatures()))
                .metadata("n", Long.toString(weights.outFeatures()));
    }

    private static void addPlain(SafetensorsWriter writer, QuantizedWeights weights) {
        long[] codes = {weights.inFeatures(), weights.outFeatures()};
        long[] scales = {weights.groups(), weights.outFeatures()};
        ElementType scaleType = OpTensors.elementType(weights.format().scaleType());
        ElementType zeroType =
                weights.format().zeroType() == ZeroType.INTEGER ? ElementType.U8 : scaleType;
        writer.add(new HostTensor("codes", ElementType.U8, codes, weights.codes()))
                .add(new HostTensor("scales", scaleType, scales, weights.scales()));
        weights.zeros()
                .ifPresent(zeros -> writer.add(new HostTensor("zeros", zeroType, scales, zeros)));
        weights.inputGroups()
                .ifPresent(
                        groups ->
                                writer.add(
                                        new HostTensor(
                                                "g_idx",
                                                ElementType.I32,
                                                new long[] {weights.inFeatures()},
                                                groups)));
    }
}
