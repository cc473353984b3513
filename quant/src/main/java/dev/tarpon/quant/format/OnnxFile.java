package dev.tarpon.quant.format;

import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The weights and the graph of an ONNX file, memory-mapped.
 *
 * <p>Reads what weights need: ModelProto, its GraphProto, and of that the initializers and nodes;
 * subgraphs, functions and external data are not followed. Field numbers: onnx.proto3. Thread-safe;
 * tensors must not be used after {@link #close()}.
 */
public final class OnnxFile implements AutoCloseable {
    private static final int MODEL_PRODUCER_NAME = 2;
    private static final int MODEL_PRODUCER_VERSION = 3;
    private static final int MODEL_GRAPH = 7;
    private static final int MODEL_METADATA = 14;
    private static final int GRAPH_NODE = 1;
    private static final int GRAPH_NAME = 2;
    private static final int GRAPH_INITIALIZER = 5;
    private static final int NODE_INPUT = 1;
    private static final int NODE_OUTPUT = 2;
    private static final int NODE_NAME = 3;
    private static final int NODE_OP_TYPE = 4;
    private static final int NODE_ATTRIBUTE = 5;
    private static final int ATTRIBUTE_NAME = 1;
    private static final int ATTRIBUTE_INT = 3;
    private static final int ENTRY_KEY = 1;
    private static final int ENTRY_VALUE = 2;

    private final String source;
    private final Arena arena;
    private final Map<String, HostTensor> initializers = new LinkedHashMap<>();
    private final List<OnnxNode> nodes = new ArrayList<>();
    private final Map<String, String> metadata = new LinkedHashMap<>();
    private boolean hasGraph;

    private OnnxFile(String source, Arena arena) {
        this.source = source;
        this.arena = arena;
    }

    /**
     * Maps a file and reads its graph.
     *
     * @throws OnnxException if it is malformed, with the position and the offending values
     * @throws IOException if it cannot be read
     */
    public static OnnxFile open(Path path) throws IOException {
        if (Files.isDirectory(path)) {
            throw new OnnxException(path.toString(), "is a folder");
        }
        Arena arena = Arena.ofShared();
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            long size = channel.size();
            if (size == 0) {
                throw new OnnxException(path.toString(), "file is empty");
            }
            MemorySegment file = channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
            var onnx = new OnnxFile(path.toString(), arena);
            onnx.readModel(new ProtoReader(onnx.source, file));
            return onnx;
        } catch (Throwable failure) {
            arena.close();
            throw failure;
        }
    }

    private void readModel(ProtoReader model) throws OnnxException {
        while (model.next()) {
            switch (model.field()) {
                case MODEL_PRODUCER_NAME -> metadata.put("producer_name", model.readString());
                case MODEL_PRODUCER_VERSION -> metadata.put("producer_version", model.readString());
                case MODEL_METADATA -> readMetadata(model.readMessage());
                case MODEL_GRAPH -> {
                    hasGraph = true;
                    readGraph(model.readMessage());
                }
                default -> model.skip();
            }
        }
        if (!hasGraph) {
            throw new OnnxException(source, "it has no graph; is it an ONNX model?");
        }
    }

    private void readMetadata(ProtoReader entry) throws OnnxException {
        String key = "";
        String value = "";
        while (entry.next()) {
            switch (entry.field()) {
                case ENTRY_KEY -> key = entry.readString();
                case ENTRY_VALUE -> value = entry.readString();
                default -> entry.skip();
            }
        }
        metadata.put(key, value);
    }

    private void readGraph(ProtoReader graph) throws OnnxException {
        while (graph.next()) {
            switch (graph.field()) {
                case GRAPH_NODE -> nodes.add(readNode(graph.readMessage()));
                case GRAPH_NAME -> metadata.put("graph_name", graph.readString());
                case GRAPH_INITIALIZER -> {
                    HostTensor tensor = OnnxTensorReader.read(graph.readMessage(), arena);
                    if (initializers.putIfAbsent(tensor.name(), tensor) != null) {
                        throw graph.failure(
                                "initializer %s appears twice"
                                        .formatted(Names.quote(tensor.name())));
                    }
                }
                default -> graph.skip();
            }
        }
    }

    private static OnnxNode readNode(ProtoReader node) throws OnnxException {
        String name = "";
        String opType = "";
        var inputs = new ArrayList<String>();
        var outputs = new ArrayList<String>();
        var integers = new LinkedHashMap<String, Long>();
        while (node.next()) {
            switch (node.field()) {
                case NODE_INPUT -> inputs.add(node.readString());
                case NODE_OUTPUT -> outputs.add(node.readString());
                case NODE_NAME -> name = node.readString();
                case NODE_OP_TYPE -> opType = node.readString();
                case NODE_ATTRIBUTE -> readAttribute(node.readMessage(), integers);
                default -> node.skip();
            }
        }
        return new OnnxNode(
                name, opType, List.copyOf(inputs), List.copyOf(outputs), Map.copyOf(integers));
    }

    private static void readAttribute(ProtoReader attribute, Map<String, Long> integers)
            throws OnnxException {
        String name = "";
        Long value = null;
        while (attribute.next()) {
            switch (attribute.field()) {
                case ATTRIBUTE_NAME -> name = attribute.readString();
                case ATTRIBUTE_INT -> value = attribute.readLong();
                default -> attribute.skip();
            }
        }
        if (value != null) {
            integers.put(name, value);
        }
    }

    /** The file, as messages name it. */
    public String source() {
        return source;
    }

    /** All initializers, in the order of the file. */
    public Collection<HostTensor> initializers() {
        return Collections.unmodifiableCollection(initializers.values());
    }

    /** The initializer of a name. */
    public Optional<HostTensor> find(String name) {
        return Optional.ofNullable(initializers.get(name));
    }

    /** All nodes, in the order of the file, which is a topological one. */
    public List<OnnxNode> nodes() {
        return Collections.unmodifiableList(nodes);
    }

    /** Producer, graph name and the model's own metadata. */
    public Map<String, String> metadata() {
        return Collections.unmodifiableMap(metadata);
    }

    /** Unmaps the file. Closing twice is allowed. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}
