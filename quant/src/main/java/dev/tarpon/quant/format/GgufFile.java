package dev.tarpon.quant.format;

import dev.tarpon.format.Names;
import dev.tarpon.format.Shapes;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * A GGUF file (versions 2 and 3, little-endian), memory-mapped: opening reads the header only,
 * tensors are views of the file.
 *
 * <p>Layout: "GGUF", a version, counts of tensors and of metadata entries; the entries; the
 * tensors' names, dimensions (innermost first), types and offsets; and, aligned to
 * general.alignment, the data. Source: docs/gguf.md of ggml-org/ggml. Thread-safe; tensors must not
 * be used after {@link #close()} (Java then throws IllegalStateException).
 */
public final class GgufFile implements AutoCloseable {
    private static final int MAGIC = 0x46554747; // "GGUF"
    private static final int MAX_DIMENSIONS = 4;
    private static final long DEFAULT_ALIGNMENT = 32;
    private static final String ALIGNMENT = "general.alignment";

    // What an entry and a tensor take at the least: lengths, types, numbers.
    private static final long MIN_ENTRY_BYTES = 13;
    private static final long MIN_TENSOR_BYTES = 32;

    private final Arena arena;
    private final Map<String, String> metadata;
    private final Map<String, GgufTensor> tensors;

    private GgufFile(Arena arena, Map<String, String> metadata, Map<String, GgufTensor> tensors) {
        this.arena = arena;
        this.metadata = Collections.unmodifiableMap(metadata);
        this.tensors = Collections.unmodifiableMap(tensors);
    }

    /** Whether this reader is the one to use, by the file's name. */
    public static boolean isGguf(Path path) {
        return path.toString().toLowerCase(Locale.ROOT).endsWith(".gguf");
    }

    /**
     * Maps a file and checks its header in full.
     *
     * @throws GgufException if the file breaks the format, with the offending values
     * @throws IOException if it cannot be read
     */
    public static GgufFile open(Path path) throws IOException {
        String source = path.toString();
        if (Files.isDirectory(path)) {
            throw new GgufException(source, "is a folder");
        }
        Arena arena = Arena.ofShared();
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            MemorySegment file =
                    channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
            return new Parser(new GgufCursor(source, file), file).parse(arena);
        } catch (Throwable failure) {
            arena.close();
            throw failure;
        }
    }

    /** Reads one header. */
    private static final class Parser {
        private final GgufCursor cursor;
        private final MemorySegment file;
        private final Map<String, String> metadata = new LinkedHashMap<>();

        /** A tensor whose data has not been looked for yet. */
        private record Info(GgmlType type, long[] shape, long offset, long bytes) {}

        private final Map<String, Info> infos = new LinkedHashMap<>();

        Parser(GgufCursor cursor, MemorySegment file) {
            this.cursor = cursor;
            this.file = file;
        }

        GgufFile parse(Arena arena) throws GgufException {
            int magic = cursor.readInt("the magic number");
            if (magic != MAGIC) {
                throw cursor.failure(
                        "begins with 0x%08x; a GGUF file begins with \"GGUF\" (0x%08x)"
                                .formatted(Integer.reverseBytes(magic), 0x47475546));
            }
            int version = cursor.readInt("the version");
            if (version != 2 && version != 3) {
                int swapped = Integer.reverseBytes(version);
                throw cursor.failure(
                        "GGUF version %s%s; 2 and 3 are supported"
                                .formatted(
                                        Integer.toUnsignedString(version),
                                        swapped == 2 || swapped == 3 ? ", a big-endian file" : ""));
            }
            long tensorCount = cursor.readCount("the count of tensors", MIN_TENSOR_BYTES);
            long entryCount = cursor.readCount("the count of metadata entries", MIN_ENTRY_BYTES);
            for (long i = 0; i < entryCount; i++) {
                String key = cursor.readString("metadata key %d".formatted(i));
                if (metadata.put(key, cursor.readValue(key)) != null) {
                    throw cursor.failure("metadata %s is there twice".formatted(Names.quote(key)));
                }
            }
            for (long i = 0; i < tensorCount; i++) {
                readInfo(i);
            }
            return new GgufFile(arena, metadata, locate());
        }

        private void readInfo(long index) throws GgufException {
            String name = cursor.readString("the name of tensor %d".formatted(index));
            String tensor = "tensor " + Names.quote(name);
            int rank = cursor.readInt("the rank of " + tensor);
            if (rank < 1 || rank > MAX_DIMENSIONS) {
                throw cursor.failure(
                        "%s has %s dimensions; expected 1 to %d"
                                .formatted(tensor, Integer.toUnsignedString(rank), MAX_DIMENSIONS));
            }
            long[] shape = new long[rank];
            for (int i = rank - 1; i >= 0; i--) {
                shape[i] = cursor.readLong("a dimension of " + tensor);
            }
            int id = cursor.readInt("the type of " + tensor);
            GgmlType type =
                    GgmlType.of(id)
                            .orElseThrow(
                                    () ->
                                            cursor.failure(
                                                    "%s has the type %s, which is not known"
                                                            .formatted(
                                                                    tensor,
                                                                    Integer.toUnsignedString(id))));
            long offset = cursor.readLong("the offset of " + tensor);
            Info info = new Info(type, shape, offset, bytes(tensor, type, shape));
            if (infos.put(name, info) != null) {
                throw cursor.failure(tensor + " is there twice");
            }
        }

        private long bytes(String tensor, GgmlType type, long[] shape) throws GgufException {
            long columns = shape[shape.length - 1];
            if (columns % type.blockElements() != 0) {
                throw cursor.failure(
                        "%s has rows of %d elements; %s takes multiples of %d"
                                .formatted(tensor, columns, type, type.blockElements()));
            }
            try {
                Shapes.elements(shape); // of a few bytes for each block there may be too many
                long bytes =
                        Math.multiplyExact(
                                columns / type.blockElements(), (long) type.blockBytes());
                for (int i = 0; i < shape.length - 1; i++) {
                    bytes = Math.multiplyExact(bytes, shape[i]);
                }
                return bytes;
            } catch (ArithmeticException | IllegalArgumentException impossible) {
                throw cursor.failure(
                        "%s has an impossible size: %s %s"
                                .formatted(tensor, type, Shapes.text(shape)));
            }
        }

        private Map<String, GgufTensor> locate() throws GgufException {
            long alignment = alignment();
            long begin = Math.ceilDiv(cursor.position(), alignment) * alignment;
            Map<String, GgufTensor> tensors = new LinkedHashMap<>();
            for (var entry : infos.entrySet()) {
                Info info = entry.getValue();
                String tensor = "tensor " + Names.quote(entry.getKey());
                if (info.offset < 0 || info.offset % alignment != 0) {
                    throw cursor.failure(
                            "%s is at offset %s, which is no multiple of the alignment %d"
                                    .formatted(
                                            tensor, Long.toUnsignedString(info.offset), alignment));
                }
                long data = Math.max(file.byteSize() - begin, 0);
                long room = Math.max(data - info.offset, 0); // neither is negative: no overflow
                if (info.bytes > room) {
                    throw cursor.failure(
                            "%s takes %d bytes at offset %d; the file has %d there"
                                    .formatted(tensor, info.bytes, info.offset, room));
                }
                MemorySegment view =
                        info.bytes == 0
                                ? file.asSlice(0, 0)
                                : file.asSlice(begin + info.offset, info.bytes);
                tensors.put(
                        entry.getKey(),
                        new GgufTensor(entry.getKey(), info.type, info.shape, view));
            }
            requireNoOverlap();
            return tensors;
        }

        /** Tensors that share bytes would let a small file ask for any amount of work. */
        private void requireNoOverlap() throws GgufException {
            List<Map.Entry<String, Info>> byOffset =
                    infos.entrySet().stream()
                            .filter(entry -> entry.getValue().bytes > 0)
                            .sorted(Comparator.comparingLong(entry -> entry.getValue().offset))
                            .toList();
            for (int i = 1; i < byOffset.size(); i++) {
                Info before = byOffset.get(i - 1).getValue();
                Info info = byOffset.get(i).getValue();
                if (before.offset + before.bytes > info.offset) {
                    throw cursor.failure(
                            "tensor %s begins at offset %d, within tensor %s at %d of %d bytes"
                                    .formatted(
                                            Names.quote(byOffset.get(i).getKey()),
                                            info.offset,
                                            Names.quote(byOffset.get(i - 1).getKey()),
                                            before.offset,
                                            before.bytes));
                }
            }
        }

        private long alignment() throws GgufException {
            String text = metadata.get(ALIGNMENT);
            if (text == null) {
                return DEFAULT_ALIGNMENT;
            }
            try {
                int alignment = Integer.parseInt(text);
                if (alignment >= 8 && alignment % 8 == 0 && alignment <= 1 << 20) {
                    return alignment;
                }
            } catch (NumberFormatException notANumber) {
                // refused below
            }
            throw cursor.failure(
                    "%s is %s; expected a multiple of 8 up to 2^20"
                            .formatted(ALIGNMENT, Names.quote(text)));
        }
    }

    /** Metadata as text, in the order of the file; an array as its type and length. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** All tensors, in the order of the header. */
    public Collection<GgufTensor> tensors() {
        return tensors.values();
    }

    /** The tensor of a name. */
    public Optional<GgufTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    /** Unmaps the file. Closing twice is allowed. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}
