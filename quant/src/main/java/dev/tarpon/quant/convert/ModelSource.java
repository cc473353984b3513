package dev.tarpon.quant.convert;

import dev.tarpon.GgufType;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.quant.format.GgufFile;
import dev.tarpon.quant.format.GgufTensor;
import dev.tarpon.quant.format.OnnxFile;
import dev.tarpon.quant.format.OnnxLinears;
import dev.tarpon.quant.format.SafetensorsFolder;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * A model file, divided into the weights of linear layers and everything else.
 *
 * <p>In an ONNX file the graph tells which matrices are weights of linear layers: those that a
 * MatMul or Gemm multiplies by. A safetensors file has no graph: there the weights are the matrices
 * in a floating-point type whose name ends in "weight" and is not that of an embedding, norm or
 * output head. A GGUF file and a GPTQ or AWQ folder have layers that are quantised already.
 */
public final class ModelSource implements AutoCloseable {
    /**
     * The weight of a linear layer.
     *
     * @param layer the layer's name, without ".weight"
     * @param tensor the matrix
     * @param outFeaturesFirst whether it is [N, K], as torch keeps it, instead of [K, N]
     */
    public record LinearWeight(String layer, HostTensor tensor, boolean outFeaturesFirst) {
        /** N. */
        public long outFeatures() {
            return tensor.dimension(outFeaturesFirst ? 0 : 1);
        }

        /** K. */
        public long inFeatures() {
            return tensor.dimension(outFeaturesFirst ? 1 : 0);
        }
    }

    /** Names that are no linear layer, or one that is better left as it is. */
    public static final String DEFAULT_EXCLUDE =
            "(.*[._])?(\\w*embed\\w*|wte|wpe|lm_head|\\w*[nN]orm\\w*)([._].*)?";

    private static final String WEIGHT = "weight";

    /** GGUF's names of the embedding and of the output head. */
    private static final Set<String> GGUF_TABLES = Set.of("token_embd.weight", "output.weight");

    private final Runnable closeFile;
    private final List<LinearWeight> linears = new ArrayList<>();
    private final List<QuantizedLayer> quantized = new ArrayList<>();
    private final List<HostTensor> others = new ArrayList<>();
    private final Map<String, String> metadata;
    private int foreignTensors;

    private ModelSource(Runnable closeFile, Map<String, String> metadata) {
        this.closeFile = closeFile;
        this.metadata = metadata;
    }

    /** Whether the reader for ONNX is the one to use, by the file's name. */
    public static boolean isOnnx(Path path) {
        return path.toString().toLowerCase(Locale.ROOT).endsWith(".onnx");
    }

    /**
     * Opens a model.
     *
     * @param include if given, only tensors whose whole name matches are quantised
     * @param exclude tensors whose whole name matches are not quantised
     */
    public static ModelSource open(Path path, Optional<Pattern> include, Pattern exclude)
            throws IOException {
        if (Files.isDirectory(path)) {
            SafetensorsFolder folder = SafetensorsFolder.open(path);
            return filled(
                    new ModelSource(folder::close, folder.metadata()),
                    source -> source.addCheckpoint(path, folder));
        }
        if (GgufFile.isGguf(path)) {
            GgufFile file = GgufFile.open(path);
            return filled(
                    new ModelSource(file::close, new LinkedHashMap<>(file.metadata())),
                    source -> source.addGguf(path, file, include, exclude));
        }
        if (isOnnx(path)) {
            OnnxFile file = OnnxFile.open(path);
            return filled(
                    new ModelSource(file::close, file.metadata()),
                    source -> source.addOnnx(file, include, exclude));
        }
        SafetensorsFile file = SafetensorsFile.open(path);
        return filled(
                new ModelSource(file::close, file.metadata()),
                source -> source.addSafetensors(file, include, exclude));
    }

    private interface Filler {
        void fill(ModelSource source) throws IOException;
    }

    /** The source with what a file has; closes the file if it is refused. */
    private static ModelSource filled(ModelSource source, Filler filler) throws IOException {
        try {
            filler.fill(source);
            return source;
        } catch (Throwable failure) {
            source.close();
            throw failure;
        }
    }

    /** A GPTQ or AWQ folder: its quantised layers are taken as they are, whatever their names. */
    private void addCheckpoint(Path path, SafetensorsFolder folder) throws IOException {
        var layers = new CheckpointSource(path, folder);
        quantized.addAll(layers.layers());
        others.addAll(layers.others());
    }

    /**
     * A GGUF file: matrices of blocks that Tarpon computes with are taken as they are, those of
     * elements are weights as in safetensors, and tensors of other blocks are copied as bytes.
     */
    private void addGguf(Path path, GgufFile file, Optional<Pattern> include, Pattern exclude) {
        for (GgufTensor tensor : file.tensors()) {
            String name = tensor.name();
            boolean linear =
                    tensor.isMatrix()
                            && (name.endsWith("." + WEIGHT) || include.isPresent())
                            && !GGUF_TABLES.contains(name)
                            && isChosen(name, include, exclude);
            if (linear && tensor.type().blocks().isPresent()) {
                GgufType type = tensor.type().blocks().get();
                quantized.add(
                        new QuantizedLayer(
                                layerOf(name),
                                tensor.data().byteSize(),
                                () -> read(path, tensor, type)));
            } else if (linear && isMatrix(tensor.toHost()) && tensor.type().element().isPresent()) {
                linears.add(new LinearWeight(layerOf(name), tensor.toHost(), true));
            } else {
                if (tensor.type().element().isEmpty()) {
                    metadata.put(name + ".gguf", tensor.description());
                    foreignTensors++;
                }
                others.add(tensor.toHost());
            }
        }
    }

    private static QuantizedWeights read(Path path, GgufTensor tensor, GgufType type)
            throws FormatException {
        return CheckpointLayers.named(
                path.toString(),
                tensor.name(),
                () ->
                        QuantizedWeights.fromGguf(
                                tensor.data(), type, tensor.rows(), tensor.columns()));
    }

    private void addSafetensors(SafetensorsFile file, Optional<Pattern> include, Pattern exclude) {
        for (HostTensor tensor : file.tensors()) {
            String name = tensor.name();
            boolean candidate =
                    name.equals(WEIGHT) || name.endsWith("." + WEIGHT) || include.isPresent();
            if (candidate && isMatrix(tensor) && isChosen(name, include, exclude)) {
                linears.add(new LinearWeight(layerOf(name), tensor, true));
            } else {
                others.add(tensor);
            }
        }
    }

    private void addOnnx(OnnxFile file, Optional<Pattern> include, Pattern exclude)
            throws IOException {
        Set<String> taken = new HashSet<>();
        for (OnnxLinears.Weight weight : OnnxLinears.find(file)) {
            if (isMatrix(weight.weight()) && isChosen(weight.name(), include, exclude)) {
                taken.add(weight.weight().name());
                linears.add(
                        new LinearWeight(
                                layerOf(weight.name()),
                                weight.weight(),
                                weight.outFeaturesFirst()));
            }
        }
        for (HostTensor tensor : file.initializers()) {
            if (!taken.contains(tensor.name())) {
                others.add(tensor);
            }
        }
    }

    private static boolean isMatrix(HostTensor tensor) {
        return tensor.type().isFloat() && tensor.rank() == 2 && tensor.elements() > 0;
    }

    private static boolean isChosen(String name, Optional<Pattern> include, Pattern exclude) {
        return include.map(pattern -> pattern.matcher(name).matches()).orElse(true)
                && !exclude.matcher(name).matches();
    }

    private static String layerOf(String name) {
        String suffix = "." + WEIGHT;
        return name.endsWith(suffix) ? name.substring(0, name.length() - suffix.length()) : name;
    }

    /** The weights to quantise. */
    public List<LinearWeight> linears() {
        return List.copyOf(linears);
    }

    /** Layers that are quantised already; they keep their codes, scales and zeros. */
    public List<QuantizedLayer> quantized() {
        return List.copyOf(quantized);
    }

    /** How many of the other tensors are blocks that are copied as bytes. */
    public int foreignTensors() {
        return foreignTensors;
    }

    /** All other tensors. */
    public List<HostTensor> others() {
        return List.copyOf(others);
    }

    /** What the file says about itself. */
    public Map<String, String> metadata() {
        return metadata;
    }

    @Override
    public void close() {
        closeFile.run();
    }
}
