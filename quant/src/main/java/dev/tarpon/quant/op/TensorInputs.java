package dev.tarpon.quant.op;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.Shapes;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;

/** The tensors that an operation reads, with checks whose messages name file and tensor. */
public final class TensorInputs implements AutoCloseable {
    private final String source;
    private final SafetensorsFile file;

    private TensorInputs(String source, SafetensorsFile file) {
        this.source = source;
        this.file = file;
    }

    /** Opens a safetensors file. */
    public static TensorInputs open(Path path) throws IOException {
        return new TensorInputs(path.toString(), SafetensorsFile.open(path));
    }

    /** The file, as messages name it. */
    public String source() {
        return source;
    }

    /** Whether a tensor is there. */
    public boolean has(String name) {
        return file.find(name).isPresent();
    }

    /**
     * A tensor of one of the given types, in any shape.
     *
     * @throws FormatException if it is missing or has another type
     */
    public HostTensor tensor(String name, ElementType... types) throws FormatException {
        HostTensor tensor =
                file.find(name)
                        .orElseThrow(
                                () ->
                                        new FormatException(
                                                source,
                                                "tensor %s is missing; there are: %s"
                                                        .formatted(Names.quote(name), listing())));
        if (!List.of(types).contains(tensor.type())) {
            throw failure(
                    name,
                    "has type %s, expected %s",
                    tensor.type(),
                    Arrays.stream(types).map(Enum::name).collect(Collectors.joining(" or ")));
        }
        return tensor;
    }

    /**
     * A matrix of one of the given types, with at least one column.
     *
     * @throws FormatException if it is missing, has another rank or another type
     */
    public HostTensor matrix(String name, ElementType... types) throws FormatException {
        HostTensor tensor = tensor(name, types);
        if (tensor.rank() != 2) {
            throw failure(name, "has shape %s, expected a matrix", Shapes.text(tensor.shape()));
        }
        return tensor;
    }

    /** A tensor of one of the given types with at least one element and one dimension. */
    public HostTensor filled(String name, ElementType... types) throws FormatException {
        HostTensor tensor = tensor(name, types);
        if (tensor.rank() == 0 || tensor.elements() == 0) {
            throw failure(name, "has shape %s; it must have elements", Shapes.text(tensor.shape()));
        }
        return tensor;
    }

    /** Checks a matrix's shape; why says where the expectation comes from. */
    public void requireShape(HostTensor tensor, String why, long... expected)
            throws FormatException {
        if (!Arrays.equals(tensor.shape(), expected)) {
            throw failure(
                    tensor.name(),
                    "has shape %s, expected %s (%s)",
                    Shapes.text(tensor.shape()),
                    Shapes.text(expected),
                    why);
        }
    }

    /** A text that the file's metadata records. */
    public Optional<String> text(String key) {
        return Optional.ofNullable(file.metadata().get(key));
    }

    /** A number that the file's metadata records. */
    public Optional<Long> metadata(String key) throws FormatException {
        String text = file.metadata().get(key);
        if (text == null) {
            return Optional.empty();
        }
        try {
            return Optional.of(Long.parseLong(text));
        } catch (NumberFormatException e) {
            throw new FormatException(
                    source,
                    "metadata %s is %s, expected an integer"
                            .formatted(Names.quote(key), Names.quote(text)));
        }
    }

    /** A complaint about a tensor. */
    public FormatException failure(String tensor, String format, Object... values) {
        return new FormatException(
                source, "tensor %s %s".formatted(Names.quote(tensor), format.formatted(values)));
    }

    /** A complaint about the file as a whole. */
    public FormatException failure(String detail) {
        return new FormatException(source, detail);
    }

    private String listing() {
        return file.tensors().isEmpty()
                ? "none"
                : file.tensors().stream()
                        .map(tensor -> Names.printable(tensor.name()))
                        .limit(20)
                        .collect(Collectors.joining(", "));
    }

    @Override
    public void close() {
        file.close();
    }
}
