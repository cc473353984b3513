package dev.tarpon.quant.llama;

import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.quant.model.Matrix;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The parameters of a Llama model in Java memory, by the names that {@link LlamaNames} gives.
 * Immutable by agreement: nobody writes to the arrays.
 *
 * <pre>{@code
 * LlamaWeights weights = LlamaWeights.load(folder);
 * float[] norm = weights.values(LlamaNames.INPUT_NORM.of(layer));
 * Linear query = makeLinear(weights.matrix(LlamaNames.QUERY.of(layer)));
 * Linear output = makeLinear(weights.matrix(weights.outputName()));
 * }</pre>
 */
public final class LlamaWeights {
    private static final String CONFIG_FILE = "config.json";
    private static final String WEIGHTS_FILE = "model.safetensors";

    private final LlamaConfig config;
    private final Map<String, float[]> parameters = new LinkedHashMap<>();

    /**
     * Weights from arrays, which are not copied.
     *
     * @param parameters every parameter of the configuration in row-major order, and no other
     * @throws IllegalArgumentException naming the parameter that is missing, unknown or of another
     *     size
     */
    public LlamaWeights(LlamaConfig config, Map<String, float[]> parameters) {
        this.config = config;
        config.parameterShapes()
                .forEach(
                        (name, shape) -> {
                            float[] values = parameters.get(name);
                            if (values == null || values.length != Shapes.elements(shape)) {
                                throw new IllegalArgumentException(
                                        "parameter %s of shape %s has %s values"
                                                .formatted(
                                                        Names.quote(name),
                                                        Shapes.text(shape),
                                                        values == null ? "no" : values.length));
                            }
                            this.parameters.put(name, values);
                        });
        for (String name : parameters.keySet()) {
            if (!this.parameters.containsKey(name)) {
                throw new IllegalArgumentException(
                        "parameter %s is not of this model".formatted(Names.quote(name)));
            }
        }
    }

    /**
     * Reads a folder in Hugging Face's layout: config.json and one model.safetensors of F32, F16 or
     * BF16.
     *
     * @throws FormatException naming the entry or parameter that is missing or different
     * @throws IOException if a file cannot be read
     */
    public static LlamaWeights load(Path folder) throws IOException {
        LlamaConfig config = LlamaConfigFile.read(folder.resolve(CONFIG_FILE));
        Path path = folder.resolve(WEIGHTS_FILE);
        if (!Files.exists(path) && Files.exists(folder.resolve(WEIGHTS_FILE + ".index.json"))) {
            throw new FormatException(
                    folder.toString(), "has its weights in several files; one is supported");
        }
        var parameters = new LinkedHashMap<String, float[]>();
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            for (var entry : config.parameterShapes().entrySet()) {
                parameters.put(entry.getKey(), read(file, path, entry.getKey(), entry.getValue()));
            }
        }
        return new LlamaWeights(config, parameters);
    }

    private static float[] read(SafetensorsFile file, Path path, String name, long[] shape)
            throws FormatException {
        HostTensor tensor = file.find(name).orElse(null);
        if (tensor == null) {
            throw new FormatException(
                    path.toString(), "parameter %s is missing".formatted(Names.quote(name)));
        }
        if (!tensor.type().isFloat() || !Arrays.equals(tensor.shape(), shape)) {
            throw new FormatException(
                    path.toString(),
                    "parameter %s is %s, expected F32, F16 or BF16 %s"
                            .formatted(
                                    Names.quote(name), tensor.description(), Shapes.text(shape)));
        }
        return tensor.toFloats();
    }

    /**
     * Writes config.json and model.safetensors in F32. Each file appears only when it is complete.
     *
     * @param folder is made if it does not exist
     */
    public void save(Path folder) throws IOException {
        Files.createDirectories(folder);
        var writer = new SafetensorsWriter().metadata("format", "pt");
        try (Arena arena = Arena.ofConfined()) {
            config.parameterShapes()
                    .forEach(
                            (name, shape) ->
                                    writer.add(
                                            HostTensor.ofFloats(
                                                    arena, name, parameters.get(name), shape)));
            writer.write(folder.resolve(WEIGHTS_FILE));
        }
        LlamaConfigFile.write(config, folder.resolve(CONFIG_FILE));
    }

    /** The shape of the model. */
    public LlamaConfig config() {
        return config;
    }

    /**
     * A parameter by its full name, row-major in the shape of {@link LlamaConfig#parameterShapes}.
     */
    public float[] values(String name) {
        float[] values = parameters.get(name);
        if (values == null) {
            throw new IllegalArgumentException("no parameter " + Names.quote(name));
        }
        return values;
    }

    /** A linear layer's matrix by its full name, as the implementations of Linear take it. */
    public Matrix matrix(String name) {
        float[] values = values(name);
        long[] shape = config.parameterShapes().get(name);
        if (shape.length != 2) {
            throw new IllegalArgumentException(
                    "parameter %s of shape %s is no matrix"
                            .formatted(Names.quote(name), Shapes.text(shape)));
        }
        return Matrix.ofOutFeaturesFirst(
                Math.toIntExact(shape[1]), Math.toIntExact(shape[0]), values);
    }

    /** The name of the output layer's matrix: the embedding's where the two are tied. */
    public String outputName() {
        return config.tiedEmbeddings() ? LlamaNames.EMBEDDING : LlamaNames.OUTPUT;
    }
}
