package dev.tarpon.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * A safetensors file, memory-mapped: opening reads the header only, tensors are views of the file.
 *
 * <p>Layout: the header's length as a little-endian u64, that many bytes of JSON, then the data.
 * Source: the format description of huggingface/safetensors. Thread-safe; tensors must not be used
 * after {@link #close()} (Java then throws IllegalStateException).
 */
public final class SafetensorsFile implements AutoCloseable {
    /** The reference implementation's limit on the header. */
    static final long MAX_HEADER_BYTES = 100_000_000;

    private static final int LENGTH_BYTES = 8;
    private static final ValueLayout.OfLong LENGTH =
            ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Arena arena;
    private final Map<String, HostTensor> tensors;
    private final Map<String, String> metadata;

    private SafetensorsFile(
            Arena arena, Map<String, HostTensor> tensors, Map<String, String> metadata) {
        this.arena = arena;
        this.tensors = tensors;
        this.metadata = metadata;
    }

    /**
     * Maps a file and checks its header in full.
     *
     * @throws SafetensorsException if the file breaks the format, with the offending values
     * @throws IOException if it cannot be read
     */
    public static SafetensorsFile open(Path path) throws IOException {
        String source = path.toString();
        if (Files.isDirectory(path)) {
            throw new SafetensorsException(source, "is a folder");
        }
        Arena arena = Arena.ofShared();
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            long size = channel.size();
            if (size < LENGTH_BYTES) {
                throw new SafetensorsException(
                        source, "file of %d bytes is too short for a header".formatted(size));
            }
            MemorySegment file = channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
            return parse(source, arena, file);
        } catch (Throwable failure) {
            arena.close();
            throw failure;
        }
    }

    private static SafetensorsFile parse(String source, Arena arena, MemorySegment file)
            throws IOException {
        long headerBytes = file.get(LENGTH, 0);
        long room = file.byteSize() - LENGTH_BYTES;
        if (headerBytes < 0 || headerBytes > room) {
            throw new SafetensorsException(
                    source,
                    "header length %s is larger than the %d bytes that follow"
                            .formatted(Long.toUnsignedString(headerBytes), room));
        }
        long limit = Math.min(MAX_HEADER_BYTES, Runtime.getRuntime().maxMemory() / 16);
        if (headerBytes > limit) {
            throw new SafetensorsException(
                    source,
                    "header length %d is over the limit of %d".formatted(headerBytes, limit));
        }
        MemorySegment data = file.asSlice(LENGTH_BYTES + headerBytes);
        MemorySegment text = file.asSlice(LENGTH_BYTES, headerBytes);
        var contents = SafetensorsHeader.parse(source, text, data.byteSize());
        var tensors = new LinkedHashMap<String, HostTensor>();
        for (var entry : contents.entries()) {
            MemorySegment bytes = data.asSlice(entry.begin(), entry.end() - entry.begin());
            tensors.put(
                    entry.name(), new HostTensor(entry.name(), entry.type(), entry.shape(), bytes));
        }
        return new SafetensorsFile(
                arena,
                Collections.unmodifiableMap(tensors),
                Collections.unmodifiableMap(contents.metadata()));
    }

    /** All tensors, in the order of their data. */
    public Collection<HostTensor> tensors() {
        return tensors.values();
    }

    /** The tensor of a name. */
    public Optional<HostTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    /** The header's __metadata__; empty if it has none. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** Unmaps the file. Closing twice is allowed. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}
