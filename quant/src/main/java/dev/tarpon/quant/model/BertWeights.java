package dev.tarpon.quant.model;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.Shapes;
import dev.tarpon.quant.format.OnnxFile;
import dev.tarpon.quant.format.OnnxLinears;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The parameters of a BERT encoder in Java memory: vectors and tables by name, and the matrices of
 * its linear layers, which the caller turns into {@link Linear} layers of its choice. Immutable by
 * agreement: nobody writes to the arrays.
 */
public final class BertWeights {
    private final String source;
    private final BertConfig config;
    private final Map<String, float[]> vectors = new HashMap<>();
    private final Map<String, Matrix> matrices = new LinkedHashMap<>();

    private BertWeights(String source, BertConfig config) {
        this.source = source;
        this.config = config;
    }

    /**
     * Reads an ONNX export, and checks that every parameter is there with the shape that the
     * configuration asks for.
     *
     * @throws FormatException naming the parameter that is missing or different
     * @throws IOException if the file cannot be read
     */
    public static BertWeights fromOnnx(Path path, BertConfig config) throws IOException {
        var weights = new BertWeights(path.toString(), config);
        try (OnnxFile file = OnnxFile.open(path)) {
            weights.readVectors(file);
            weights.readMatrices(file);
        }
        return weights;
    }

    private void readVectors(OnnxFile file) throws FormatException {
        int hidden = config.hidden();
        read(file, "embeddings.word_embeddings.weight", config.vocabulary(), hidden);
        read(file, "embeddings.position_embeddings.weight", config.positions(), hidden);
        read(file, "embeddings.token_type_embeddings.weight", 2, hidden);
        readLayerNorm(file, "embeddings.LayerNorm");
        for (int layer = 0; layer < config.layers(); layer++) {
            readLayerNorm(file, BertEncoder.layerName(layer) + ".attention.output.LayerNorm");
            readLayerNorm(file, BertEncoder.layerName(layer) + ".output.LayerNorm");
            for (LinearName linear : linearsOf(layer)) {
                read(file, linear.name() + ".bias", linear.outFeatures());
            }
        }
    }

    private void readLayerNorm(OnnxFile file, String name) throws FormatException {
        read(file, name + ".weight", config.hidden());
        read(file, name + ".bias", config.hidden());
    }

    private void read(OnnxFile file, String name, long... shape) throws FormatException {
        HostTensor tensor =
                file.find(name)
                        .orElseThrow(() -> failure("parameter %s is missing", Names.quote(name)));
        check(tensor, name, shape);
        vectors.put(name, tensor.toFloats());
    }

    private void readMatrices(OnnxFile file) throws FormatException {
        var found = new HashMap<String, OnnxLinears.Weight>();
        for (OnnxLinears.Weight weight : OnnxLinears.find(file)) {
            found.put(weight.name(), weight);
        }
        for (int layer = 0; layer < config.layers(); layer++) {
            for (LinearName linear : linearsOf(layer)) {
                String name = linear.name() + ".weight";
                OnnxLinears.Weight weight = found.get(name);
                if (weight == null) {
                    throw failure("parameter %s is missing", Names.quote(name));
                }
                int in = linear.inFeatures();
                int out = linear.outFeatures();
                if (weight.outFeaturesFirst()) {
                    check(weight.weight(), name, out, in);
                    matrices.put(
                            linear.name(),
                            Matrix.ofOutFeaturesFirst(in, out, weight.weight().toFloats()));
                } else {
                    check(weight.weight(), name, in, out);
                    matrices.put(linear.name(), new Matrix(in, out, weight.weight().toFloats()));
                }
            }
        }
    }

    private record LinearName(String name, int inFeatures, int outFeatures) {}

    private List<LinearName> linearsOf(int layer) {
        int hidden = config.hidden();
        int wide = config.feedForward();
        String prefix = BertEncoder.layerName(layer);
        var linears = new ArrayList<LinearName>();
        for (String part : List.of("query", "key", "value")) {
            linears.add(new LinearName(prefix + ".attention.self." + part, hidden, hidden));
        }
        linears.add(new LinearName(prefix + ".attention.output.dense", hidden, hidden));
        linears.add(new LinearName(prefix + ".intermediate.dense", hidden, wide));
        linears.add(new LinearName(prefix + ".output.dense", wide, hidden));
        return linears;
    }

    private void check(HostTensor tensor, String name, long... shape) throws FormatException {
        if (tensor.type() != ElementType.F32 || !Arrays.equals(tensor.shape(), shape)) {
            throw failure(
                    "parameter %s is %s, expected F32 %s",
                    Names.quote(name), tensor.description(), Shapes.text(shape));
        }
    }

    private FormatException failure(String format, Object... values) {
        return new FormatException(source, format.formatted(values));
    }

    /** The shape of the encoder. */
    public BertConfig config() {
        return config;
    }

    /** A vector or table by its full name, such as embeddings.LayerNorm.bias. */
    public float[] vector(String name) {
        float[] values = vectors.get(name);
        if (values == null) {
            throw new IllegalArgumentException("no parameter " + Names.quote(name));
        }
        return values;
    }

    /** The linear layers' matrices by layer name (without .weight), in the order of the model. */
    public Map<String, Matrix> matrices() {
        return Collections.unmodifiableMap(matrices);
    }

    /** How many parameters there are outside the linear layers' matrices. */
    public long otherParameters() {
        return vectors.values().stream().mapToLong(values -> values.length).sum();
    }
}
