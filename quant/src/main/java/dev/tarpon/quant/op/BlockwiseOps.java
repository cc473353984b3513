package dev.tarpon.quant.op;

import dev.tarpon.BlockwiseQuantizer;
import dev.tarpon.CodeMap;
import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tarpon;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.Locale;

/** Block-wise quantisation, each way from one safetensors file to another. */
public final class BlockwiseOps {
    private BlockwiseOps() {}

    /**
     * blockwise-quantize: x in any shape to codes u8, absmax f32 [blocks] and map f32 [256].
     *
     * <p>Codes of 8 bits have the shape of x. Codes of 4 bits are [ceil(n / 2)], two a byte, and
     * their map is [16]. Map, block, n and the type of x are in the metadata.
     */
    public static void quantize(Device device, Path in, Path out, BlockwiseOptions options)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor x = inputs.filled("x", OpTensors.FLOATS);
            BlockwiseQuantizer quantizer = options.quantizer();
            long n = x.elements();
            boolean bytes = quantizer.map().bits() == 8;
            long[] shape = bytes ? x.shape() : new long[] {quantizer.codeBytes(n)};
            float[] codebook = quantizer.map().codebook();
            try (Stream stream = device.createStream();
                    Tensor values = OpTensors.upload(device, x);
                    Tensor codes = device.allocate(DType.U8, shape);
                    Tensor absmax = device.allocate(DType.F32, quantizer.blocks(n))) {
                OpTensors.named(
                        inputs, "x", () -> quantizer.quantize(values, codes, absmax, stream));
                describe("blockwise-quantize", device, quantizer)
                        .metadata("n", Long.toString(n))
                        .metadata("dtype", x.type().label())
                        .add(OpTensors.download(arena, "codes", codes, stream))
                        .add(OpTensors.download(arena, "absmax", absmax, stream))
                        .add(HostTensor.ofFloats(arena, "map", codebook, codebook.length))
                        .write(out);
            }
        }
    }

    /**
     * blockwise-dequantize: codes u8 and absmax f32 [blocks] to y, in the shape of the codes, or
     * [n] if they have 4 bits. A map that is in the file, too, has to be the one that is used.
     */
    public static void dequantize(Device device, Path in, Path out, BlockwiseOptions options)
            throws IOException {
        try (TensorInputs inputs = TensorInputs.open(in);
                Arena arena = Arena.ofConfined()) {
            HostTensor codes = inputs.filled("codes", ElementType.U8);
            BlockwiseOptions known = completed(options, inputs);
            BlockwiseQuantizer quantizer = known.quantizer();
            checkMap(inputs, quantizer.map());
            long n = elements(inputs, codes, quantizer, known.n());
            HostTensor absmax = inputs.filled("absmax", ElementType.F32);
            inputs.requireShape(
                    absmax,
                    "n %d, block %d".formatted(n, quantizer.blockSize()),
                    quantizer.blocks(n));
            long[] shape = quantizer.map().bits() == 8 ? codes.shape() : new long[] {n};
            ElementType type = known.type() == null ? ElementType.F32 : known.type();
            try (Stream stream = device.createStream();
                    Tensor deviceCodes = OpTensors.upload(device, codes);
                    Tensor deviceAbsmax = OpTensors.upload(device, absmax);
                    Tensor y = device.allocate(OpTensors.dtype(type), shape)) {
                OpTensors.named(
                        inputs,
                        "codes",
                        () -> quantizer.dequantize(deviceCodes, deviceAbsmax, y, stream));
                describe("blockwise-dequantize", device, quantizer)
                        .add(OpTensors.download(arena, "y", y, stream))
                        .write(out);
            }
        }
    }

    /** The options, with what is not said taken from the file's metadata. */
    private static BlockwiseOptions completed(BlockwiseOptions options, TensorInputs inputs)
            throws FormatException {
        CodeMap map = options.map();
        if (map == null && inputs.text("map").isPresent()) {
            String name = inputs.text("map").get();
            map =
                    MapName.find(name)
                            .orElseThrow(
                                    () ->
                                            inputs.failure(
                                                    "metadata 'map' is '%s', expected one of %s"
                                                            .formatted(name, MapName.all())));
        }
        Integer block = options.block();
        if (block == null && inputs.metadata("block").isPresent()) {
            long recorded = inputs.metadata("block").get();
            if (!MapName.isBlock(recorded)) {
                throw inputs.failure(
                        "metadata 'block' is %d, expected a power of two from 64 to 4096"
                                .formatted(recorded));
            }
            block = (int) recorded;
        }
        Long n = options.n() == null ? inputs.metadata("n").orElse(null) : options.n();
        ElementType type = options.type();
        if (type == null && inputs.text("dtype").isPresent()) {
            String name = inputs.text("dtype").get();
            type =
                    ElementType.ofName(name.toUpperCase(Locale.ROOT))
                            .filter(ElementType::isFloat)
                            .orElseThrow(
                                    () ->
                                            inputs.failure(
                                                    "metadata 'dtype' is '%s', expected f32, f16"
                                                            + " or bf16".formatted(name)));
        }
        return new BlockwiseOptions(map, block, n, type);
    }

    private static long elements(
            TensorInputs inputs, HostTensor codes, BlockwiseQuantizer quantizer, Long n)
            throws FormatException {
        long size = codes.elements();
        if (n == null) {
            return quantizer.map().bits() == 8 ? size : 2 * size;
        }
        if (n < 1 || quantizer.codeBytes(n) != size) {
            throw inputs.failure(
                    "codes",
                    "has %d bytes; n %d with map %s takes %d",
                    size,
                    n,
                    MapName.of(quantizer.map()),
                    quantizer.codeBytes(n));
        }
        return n;
    }

    private static void checkMap(TensorInputs inputs, CodeMap map) throws FormatException {
        if (!inputs.has("map")) {
            return;
        }
        float[] expected = map.codebook();
        HostTensor tensor = inputs.tensor("map", ElementType.F32);
        inputs.requireShape(tensor, "map " + MapName.of(map), expected.length);
        float[] values = tensor.toFloats();
        for (int i = 0; i < expected.length; i++) {
            // Adding 0 makes -0 and 0 the same; compare() makes NaN and NaN the same.
            if (Float.compare(values[i] + 0f, expected[i] + 0f) != 0) {
                throw inputs.failure(
                        "map",
                        "has value %s for code %d, where map %s has %s",
                        values[i],
                        i,
                        MapName.of(map),
                        expected[i]);
            }
        }
    }

    private static SafetensorsWriter describe(
            String op, Device device, BlockwiseQuantizer quantizer) {
        return new SafetensorsWriter()
                .metadata("op", op)
                .metadata("tarpon", Tarpon.version())
                .metadata("device", device.info().spec())
                .metadata("map", MapName.of(quantizer.map()))
                .metadata("block", Integer.toString(quantizer.blockSize()));
    }
}
