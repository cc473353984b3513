package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.LinearOptions;
import dev.tarpon.MarlinWeights;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/** The operations on 4-bit linear layers, each from one safetensors file to another. */
public final class LinearOps {
    private LinearOps() {}

    /**
     * linear-pack: a weight, or codes and scales, to MARLIN order.
     *
     * <p>Writes qweight i32 [Kp/16, 2*Np] and scales_packed f16 [G, Np], where Kp and Np are K and
     * N rounded up to 16 and 64; codes u8 [K, N] and scales f16 [G, N] in plain order; and n, k,
     * group and bits as metadata.
     */
    public static void pack(Path in, Path out, WeightOptions options) throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in)) {
            var reader = new WeightReader(inputs, options);
            QuantizedWeights weights = reader.read(WeightForm.WEIGHT, WeightForm.CODES);
            MarlinWeights marlin = weights.toMarlin();
            SafetensorsWriter writer = describe("linear-pack", weights, reader.group());
            addPlain(writer, weights);
            long paddedK = Math.ceilDiv(weights.inFeatures(), 16L) * 16;
            long paddedN = Math.ceilDiv(weights.outFeatures(), 64L) * 64;
            long[] packed = {paddedK / 16, 2 * paddedN};
            long[] scales = {weights.groups(), paddedN};
            writer.add(new HostTensor("qweight", ElementType.I32, packed, marlin.qweight()))
                    .add(new HostTensor("scales_packed", ElementType.F16, scales, marlin.scales()))
                    .write(out);
        }
    }

    /** linear-unpack: MARLIN order to codes u8 [K, N] and scales f16 [G, N]. */
    public static void unpack(Path in, Path out, WeightOptions options) throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in)) {
            var reader = new WeightReader(inputs, options);
            QuantizedWeights weights = reader.read(WeightForm.QWEIGHT);
            SafetensorsWriter writer = describe("linear-unpack", weights, reader.group());
            addPlain(writer, weights);
            writer.write(out);
        }
    }

    /**
     * linear: y = x W on a device.
     *
     * @param variant the kernel to use; null lets the library choose
     */
    public static void linear(
            Device device, Path in, Path out, WeightOptions options, String variant)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in)) {
            HostTensor x = inputs.matrix("x", ElementType.F16, ElementType.BF16, ElementType.F32);
            var reader = new WeightReader(inputs, options);
            QuantizedWeights weights = reader.read(WeightForm.values());
            if (x.dimension(1) != weights.inFeatures()) {
                throw inputs.failure(
                        "x",
                        "has shape [%d, %d], but the weight has k %d",
                        x.dimension(0),
                        x.dimension(1),
                        weights.inFeatures());
            }
            DType dtype = WeightReader.dtype(x.type());
            try (QuantizedLinear linear =
                    QuantizedLinear.create(device, weights, new LinearOptions(dtype, variant))) {
                long m = x.dimension(0);
                long[] shape = {m, weights.outFeatures()};
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment bytes =
                            arena.allocate(Math.max(1, m * shape[1] * dtype.bytes()), 64);
                    MemorySegment y = bytes.asSlice(0, m * shape[1] * dtype.bytes());
                    if (m > 0) {
                        run(device, linear, dtype, x.aligned(arena), y, m);
                    }
                    describe("linear", weights, reader.group())
                            .metadata("device", device.info().spec())
                            .metadata("variant", linear.variant())
                            .add(new HostTensor("y", x.type(), shape, y))
                            .write(out);
                }
            }
        }
    }

    private static void run(
            Device device,
            QuantizedLinear linear,
            DType dtype,
            MemorySegment x,
            MemorySegment y,
            long m) {
        try (Stream stream = device.createStream();
                Tensor input = device.allocate(dtype, m, linear.inFeatures());
                Tensor output = device.allocate(dtype, m, linear.outFeatures())) {
            input.copyFrom(x, stream);
            linear.forward(input, output, stream);
            output.copyTo(y, stream);
            stream.synchronize();
        }
    }

    private static SafetensorsWriter describe(String op, QuantizedWeights weights, int group) {
        return new SafetensorsWriter()
                .metadata("op", op)
                .metadata("tarpon", Tarpon.version())
                .metadata("bits", "4")
                .metadata("group", Integer.toString(group))
                .metadata("k", Long.toString(weights.inFeatures()))
                .metadata("n", Long.toString(weights.outFeatures()));
    }

    private static void addPlain(SafetensorsWriter writer, QuantizedWeights weights) {
        long[] codes = {weights.inFeatures(), weights.outFeatures()};
        long[] scales = {weights.groups(), weights.outFeatures()};
        writer.add(new HostTensor("codes", ElementType.U8, codes, weights.codes()))
                .add(new HostTensor("scales", ElementType.F16, scales, weights.scales()));
    }
}
