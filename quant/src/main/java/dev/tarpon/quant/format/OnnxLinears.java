package dev.tarpon.quant.format;

import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * Finds the linear layers of an ONNX graph and the names they had before export.
 *
 * <p>Exporters fold the transposition of a linear layer's weight into an initializer of their own
 * naming, such as onnx::MatMul_1234. The layer's name survives in the bias that is added to the
 * product, and in the node's name, which is the path of the module it was exported from.
 */
public final class OnnxLinears {
    /**
     * A weight matrix that a MatMul or Gemm multiplies by.
     *
     * @param name the parameter's name as torch has it, such as encoder.layer.0.output.dense.weight
     * @param weight the initializer
     * @param outFeaturesFirst whether it is [out, in], as torch keeps it, instead of [in, out]
     */
    public record Weight(String name, HostTensor weight, boolean outFeaturesFirst) {}

    private static final Pattern ANONYMOUS = Pattern.compile("onnx::.*|\\d+|[Cc]onstant.*");
    private static final String BIAS = ".bias";

    private final OnnxFile file;
    private final Map<String, List<OnnxNode>> consumers = new HashMap<>();

    private OnnxLinears(OnnxFile file) {
        this.file = file;
        for (OnnxNode node : file.nodes()) {
            for (String input : node.inputs()) {
                consumers.computeIfAbsent(input, key -> new ArrayList<>()).add(node);
            }
        }
    }

    /**
     * All weights of linear layers in graph order. A weight that several nodes share comes once.
     *
     * @throws OnnxException if two different weights claim the same layer
     */
    public static List<Weight> find(OnnxFile file) throws OnnxException {
        var search = new OnnxLinears(file);
        var byInitializer = new LinkedHashMap<String, Weight>();
        var byName = new HashMap<String, String>();
        for (OnnxNode node : file.nodes()) {
            boolean gemm = node.opType().equals("Gemm");
            if ((!gemm && !node.opType().equals("MatMul")) || node.inputs().size() < 2) {
                continue;
            }
            String initializer = node.inputs().get(1);
            Optional<HostTensor> weight = file.find(initializer);
            if (weight.isEmpty() || weight.get().rank() != 2) {
                continue;
            }
            if (byInitializer.containsKey(initializer)) {
                continue;
            }
            String name = search.name(node, initializer);
            String other = byName.putIfAbsent(name, initializer);
            if (other != null) {
                throw new OnnxException(
                        file.source(),
                        "initializers %s and %s both belong to layer %s"
                                .formatted(
                                        Names.quote(other),
                                        Names.quote(initializer),
                                        Names.quote(name)));
            }
            boolean transposed = gemm && node.integers().getOrDefault("transB", 0L) != 0;
            byInitializer.put(initializer, new Weight(name, weight.get(), transposed));
        }
        return List.copyOf(byInitializer.values());
    }

    private String name(OnnxNode node, String initializer) {
        if (!ANONYMOUS.matcher(initializer).matches()) {
            return initializer;
        }
        return biasOf(node)
                .map(bias -> bias.substring(0, bias.length() - BIAS.length()) + ".weight")
                .or(() -> modulePath(node).map(path -> path + ".weight"))
                .orElse(initializer);
    }

    /** The named bias that is added to the node's product: Gemm's third input, or an Add's. */
    private Optional<String> biasOf(OnnxNode node) {
        if (node.opType().equals("Gemm")) {
            return node.inputs().stream().skip(2).filter(this::isNamedBias).findFirst();
        }
        return node.outputs().stream()
                .flatMap(output -> consumers.getOrDefault(output, List.of()).stream())
                .filter(consumer -> consumer.opType().equals("Add"))
                .flatMap(add -> add.inputs().stream())
                .filter(this::isNamedBias)
                .findFirst();
    }

    private boolean isNamedBias(String name) {
        return name.endsWith(BIAS) && file.find(name).isPresent();
    }

    /** /encoder/layer.0/output/dense/MatMul names the module encoder.layer.0.output.dense. */
    private static Optional<String> modulePath(OnnxNode node) {
        String path = node.name();
        int last = path.lastIndexOf('/');
        if (!path.startsWith("/") || last <= 0) {
            return Optional.empty();
        }
        return Optional.of(path.substring(1, last).replace('/', '.'));
    }
}
