package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.GgufType;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.WeightFormat;
import dev.tarpon.WeightType;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.quant.convert.CheckpointLayers;
import dev.tarpon.quant.format.GgufFile;
import dev.tarpon.quant.format.GgufTensor;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * Reads the weight of a linear layer with the tensors' names and shapes of a checkpoint's format.
 *
 * <p>Sizes come from the shapes; the group from --group, the metadata or the number of scales.
 */
final class CheckpointReader {
    private static final int[] GROUPS = {32, 64, 128};
    private static final ElementType[] SCALES = {
        ElementType.F16, ElementType.BF16, ElementType.F32
    };

    private final TensorInputs inputs;
    private final WeightOptions options;
    private final FormatOptions format;

    /**
     * @param inputs the safetensors file that has the weight
     */
    CheckpointReader(TensorInputs inputs, WeightOptions options, FormatOptions format) {
        this.inputs = inputs;
        this.options = options;
        this.format = format;
    }

    QuantizedWeights read() throws IOException {
        return switch (format.format()) {
            case MARLIN -> marlin();
            case GPTQ -> gptq(false);
            case GPTQ_V2 -> gptq(true);
            case AWQ -> awq();
            case GGUF -> gguf();
            case PLAIN -> plain();
        };
    }

    private QuantizedWeights marlin() throws FormatException {
        HostTensor words = inputs.matrix("B", ElementType.I32);
        HostTensor scales = inputs.matrix("s", ElementType.F16);
        long k = options.k() == null ? 16 * words.dimension(0) : options.k();
        long n = options.n() == null ? words.dimension(1) / 2 : options.n();
        int group = group(k, scales.dimension(0));
        return named(
                "B",
                arena ->
                        QuantizedWeights.fromMarlin(
                                words.aligned(arena), scales.aligned(arena), n, k, group));
    }

    private QuantizedWeights gptq(boolean v2) throws FormatException {
        HostTensor words = inputs.matrix("qweight", ElementType.I32);
        int bits = options.bits();
        long k = words.dimension(0) * 32 / bits;
        long n = words.dimension(1);
        requireSizes("qweight", n, k);
        HostTensor scales = scales(n);
        WeightType type = bits == 4 ? WeightType.INT4 : WeightType.INT8;
        WeightFormat integer = integer(type, scales, group(k, scales.dimension(0)));
        Optional<HostTensor> zeros = optional("qzeros", ElementType.I32);
        Optional<HostTensor> gIdx = optional("g_idx", ElementType.I32);
        return named(
                "qweight",
                arena ->
                        CheckpointLayers.gptq(
                                words.aligned(arena),
                                aligned(zeros, arena),
                                scales.aligned(arena),
                                aligned(gIdx, arena),
                                v2,
                                n,
                                k,
                                integer));
    }

    private QuantizedWeights awq() throws FormatException {
        HostTensor words = inputs.matrix("qweight", ElementType.I32);
        long k = words.dimension(0);
        long n = 8 * words.dimension(1);
        requireSizes("qweight", n, k);
        HostTensor scales = scales(n);
        WeightFormat integer = integer(WeightType.INT4, scales, group(k, scales.dimension(0)));
        Optional<HostTensor> zeros = optional("qzeros", ElementType.I32);
        return named(
                "qweight",
                arena ->
                        CheckpointLayers.awq(
                                words.aligned(arena),
                                aligned(zeros, arena),
                                scales.aligned(arena),
                                n,
                                k,
                                integer));
    }

    /**
     * Codes and scales as they are; zeros are zero points if U8, minimums if of the scales' type.
     */
    private QuantizedWeights plain() throws FormatException {
        HostTensor codes = inputs.matrix("codes", ElementType.U8, ElementType.F8_E4M3);
        long k = codes.dimension(0);
        long n = codes.dimension(1);
        requireSizes("codes", n, k);
        HostTensor scales = scales(n);
        WeightType type = plainType(codes.type());
        Optional<HostTensor> zeros = optional("zeros", ElementType.U8, scales.type());
        ZeroType zeroType =
                zeros.isEmpty()
                        ? ZeroType.SYMMETRIC
                        : zeros.get().type() == ElementType.U8 ? ZeroType.INTEGER : ZeroType.FLOAT;
        if (type == WeightType.FP8_E4M3 && zeroType != ZeroType.SYMMETRIC) {
            throw inputs.failure("zeros", "is there, but fp8 weights are symmetric");
        }
        int group = group(k, scales.dimension(0));
        var plain = new WeightFormat(type, zeroType, WeightReader.dtype(scales.type()), group);
        Optional<HostTensor> gIdx = optional("g_idx", ElementType.I32);
        return named(
                "codes",
                arena ->
                        QuantizedWeights.of(
                                codes.aligned(arena),
                                scales.aligned(arena),
                                aligned(zeros, arena),
                                aligned(gIdx, arena),
                                n,
                                k,
                                plain));
    }

    private WeightType plainType(ElementType codes) throws FormatException {
        WeightType recorded = format.weightType();
        Optional<String> text = inputs.text("weight_type");
        if (recorded == null && text.isPresent()) {
            recorded =
                    Arrays.stream(WeightType.values())
                            .filter(type -> type.name().equals(text.get()))
                            .findFirst()
                            .orElseThrow(
                                    () ->
                                            inputs.failure(
                                                    "metadata 'weight_type' is "
                                                            + Names.quote(text.get())));
        }
        if (codes == ElementType.F8_E4M3) {
            if (recorded != null && recorded != WeightType.FP8_E4M3) {
                throw inputs.failure("codes", "has type F8_E4M3, but the weights are %s", recorded);
            }
            return WeightType.FP8_E4M3;
        }
        return recorded == null ? WeightType.INT4 : recorded;
    }

    /** Blocks in a tensor, U8 [N, bytes of a row]. */
    private QuantizedWeights gguf() throws FormatException {
        HostTensor blocks = inputs.matrix("blocks", ElementType.U8);
        GgufType type = format.ggufType();
        if (type == null) {
            throw inputs.failure("blocks", "needs --gguf-type q4_0, q4_1, q8_0 or q4_k");
        }
        long n = blocks.dimension(0);
        long rowBytes = blocks.dimension(1);
        if (rowBytes % type.blockBytes() != 0) {
            throw inputs.failure(
                    "blocks",
                    "has rows of %d bytes; %s blocks have %d",
                    rowBytes,
                    type,
                    type.blockBytes());
        }
        long k = rowBytes / type.blockBytes() * type.blockInputs();
        requireSizes("blocks", n, k);
        return named(
                "blocks", arena -> QuantizedWeights.fromGguf(blocks.aligned(arena), type, n, k));
    }

    /** A matrix of a .gguf file; its name may be left out if there is one that can be read. */
    static QuantizedWeights readGguf(Path path, String name) throws IOException {
        try (GgufFile file = GgufFile.open(path)) {
            GgufTensor tensor = choose(file, path, name);
            GgufType type =
                    tensor.type()
                            .blocks()
                            .filter(blocks -> tensor.isMatrix())
                            .orElseThrow(
                                    () ->
                                            new FormatException(
                                                    path.toString(),
                                                    "tensor %s is %s; expected a matrix of Q4_0,"
                                                                    .formatted(
                                                                            Names.quote(
                                                                                    tensor.name()),
                                                                            tensor.description())
                                                            + " Q4_1, Q8_0 or Q4_K"));
            return CheckpointLayers.named(
                    path.toString(),
                    tensor.name(),
                    () ->
                            QuantizedWeights.fromGguf(
                                    tensor.data(), type, tensor.rows(), tensor.columns()));
        }
    }

    private static GgufTensor choose(GgufFile file, Path path, String name) throws FormatException {
        var matrices =
                file.tensors().stream()
                        .filter(t -> t.isMatrix() && t.type().blocks().isPresent())
                        .toList();
        if (name != null) {
            return file.find(name)
                    .orElseThrow(
                            () ->
                                    new FormatException(
                                            path.toString(),
                                            "tensor %s is missing".formatted(Names.quote(name))));
        }
        if (matrices.size() != 1) {
            throw new FormatException(
                    path.toString(),
                    "has %d matrices that can be read; choose with --tensor: %s"
                            .formatted(
                                    matrices.size(),
                                    matrices.stream()
                                            .map(t -> Names.printable(t.name()))
                                            .limit(20)
                                            .collect(Collectors.joining(", "))));
        }
        return matrices.getFirst();
    }

    private HostTensor scales(long n) throws FormatException {
        HostTensor scales = inputs.matrix("scales", SCALES);
        if (scales.dimension(1) != n) {
            throw inputs.failure(
                    "scales", "has %d columns; the weight has n %d", scales.dimension(1), n);
        }
        return scales;
    }

    private Optional<HostTensor> optional(String name, ElementType... types)
            throws FormatException {
        return inputs.has(name) ? Optional.of(inputs.tensor(name, types)) : Optional.empty();
    }

    private static MemorySegment aligned(Optional<HostTensor> tensor, Arena arena) {
        return tensor.map(present -> present.aligned(arena)).orElse(null);
    }

    private static WeightFormat integer(WeightType type, HostTensor scales, int group) {
        DType scaleType = WeightReader.dtype(scales.type());
        return new WeightFormat(type, ZeroType.INTEGER, scaleType, group);
    }

    /** --group, the metadata, or the group that k and the number of scales leave. */
    private int group(long k, long groups) throws FormatException {
        Optional<Long> recorded = inputs.metadata("group");
        if (options.group() != null) {
            if (recorded.isPresent() && recorded.get() != options.group().longValue()) {
                throw inputs.failure(
                        "metadata 'group' is %d, but --group is %d"
                                .formatted(recorded.get(), options.group()));
            }
            return options.group();
        }
        if (recorded.isPresent() && recorded.get() == recorded.get().intValue()) {
            return recorded.get().intValue();
        }
        if (groups == 1) {
            return -1;
        }
        for (int group : GROUPS) {
            if (Math.ceilDiv(k, (long) group) == groups) {
                return group;
            }
        }
        throw inputs.failure(
                "scales", "has %d rows for k %d, which no group of 32, 64 or 128 gives", groups, k);
    }

    private void requireSizes(String tensor, long n, long k) throws FormatException {
        if (n == 0 || k == 0) {
            throw inputs.failure(tensor, "is empty: n %d, k %d", n, k);
        }
        if (options.n() != null && options.n() != n || options.k() != null && options.k() != k) {
            throw inputs.failure(
                    tensor,
                    "has n %d and k %d, expected n %s and k %s",
                    n,
                    k,
                    options.n() == null ? "any" : options.n(),
                    options.k() == null ? "any" : options.k());
        }
    }

    private interface Maker {
        QuantizedWeights make(Arena arena);
    }

    private QuantizedWeights named(String tensor, Maker maker) throws FormatException {
        try (Arena arena = Arena.ofConfined()) {
            return CheckpointLayers.named(inputs.source(), tensor, () -> maker.make(arena));
        }
    }
}
