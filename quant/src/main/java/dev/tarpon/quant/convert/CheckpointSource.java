package dev.tarpon.quant.convert;

import dev.tarpon.DType;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.WeightFormat;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.quant.format.SafetensorsFolder;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** The layers of a GPTQ or AWQ checkpoint folder: those that have a qweight. */
final class CheckpointSource {
    private static final String QWEIGHT = ".qweight";
    private static final List<String> PARTS = List.of(QWEIGHT, ".qzeros", ".scales", ".g_idx");

    private final String source;
    private final CheckpointConfig config;
    private final SafetensorsFolder folder;
    private final Set<String> taken = new HashSet<>();

    CheckpointSource(Path path, SafetensorsFolder folder) throws IOException {
        this.source = path.toString();
        this.config = CheckpointConfig.read(path);
        this.folder = folder;
    }

    /** All layers, in the order of the files. */
    List<QuantizedLayer> layers() throws FormatException {
        List<QuantizedLayer> layers = new ArrayList<>();
        for (HostTensor tensor : folder.tensors()) {
            String name = tensor.name();
            if (!name.endsWith(QWEIGHT)) {
                continue;
            }
            String layer = name.substring(0, name.length() - QWEIGHT.length());
            HostTensor scales =
                    folder.find(layer + ".scales")
                            .orElseThrow(
                                    () ->
                                            new FormatException(
                                                    source,
                                                    "layer %s has a qweight and no scales"
                                                            .formatted(Names.quote(layer))));
            long bytes = tensor.data().byteSize() + scales.data().byteSize();
            PARTS.forEach(part -> taken.add(layer + part));
            layers.add(new QuantizedLayer(layer, bytes, () -> read(layer, tensor, scales)));
        }
        return layers;
    }

    /** The tensors that belong to no weight, such as norms, biases and embeddings. */
    List<HostTensor> others() {
        return folder.tensors().stream().filter(t -> !taken.contains(t.name())).toList();
    }

    private QuantizedWeights read(String layer, HostTensor qweight, HostTensor scales)
            throws FormatException {
        requireMatrix(qweight, ElementType.I32);
        requireMatrix(scales, ElementType.F16, ElementType.BF16, ElementType.F32);
        Optional<HostTensor> zeros = folder.find(layer + ".qzeros");
        if (zeros.isPresent()) {
            requireMatrix(zeros.get(), ElementType.I32);
        }
        Optional<HostTensor> gIdx = folder.find(layer + ".g_idx");
        boolean awq = config.method() == CheckpointConfig.Method.AWQ;
        long k = qweight.dimension(0) * (awq ? 1 : 32 / config.bits());
        long n = qweight.dimension(1) * (awq ? 8 : 1);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment words = qweight.aligned(arena);
            MemorySegment zeroWords = zeros.map(t -> t.aligned(arena)).orElse(null);
            MemorySegment scaleValues = scales.aligned(arena);
            MemorySegment groups = gIdx.map(t -> t.aligned(arena)).orElse(null);
            return CheckpointLayers.named(
                    source,
                    qweight.name(),
                    () -> {
                        var integer =
                                new WeightFormat(
                                        config.weightType(),
                                        ZeroType.INTEGER,
                                        DType.valueOf(scales.type().name()),
                                        config.groupSize());
                        if (awq) {
                            return CheckpointLayers.awq(
                                    words, zeroWords, scaleValues, n, k, integer);
                        }
                        return CheckpointLayers.gptq(
                                words, zeroWords, scaleValues, groups, config.v2(), n, k, integer);
                    });
        }
    }

    private void requireMatrix(HostTensor tensor, ElementType... types) throws FormatException {
        if (tensor.rank() != 2 || !List.of(types).contains(tensor.type())) {
            throw new FormatException(
                    source,
                    "tensor %s is %s; expected a matrix of %s"
                            .formatted(
                                    Names.quote(tensor.name()),
                                    tensor.description(),
                                    List.of(types)));
        }
    }
}
