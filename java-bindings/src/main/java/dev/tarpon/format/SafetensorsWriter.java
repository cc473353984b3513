package dev.tarpon.format;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * Writes a safetensors file.
 *
 * <p>Tensors are declared first and produced one at a time while the file is written, so that a
 * model larger than memory can pass through. They are laid out by descending element size, which
 * keeps every tensor aligned to its elements; within a size the order of declaration stays. The
 * file appears under its name only when it is complete ({@link AtomicFile}).
 */
public final class SafetensorsWriter {
    /** Produces a tensor's bytes; called once, in the order of the file. */
    @FunctionalInterface
    public interface Source {
        MemorySegment bytes() throws IOException;
    }

    private record Item(String name, ElementType type, long[] shape, Source source) {
        long bytes() {
            return Math.multiplyExact(Shapes.elements(shape), (long) type.bytes());
        }
    }

    /** One bulk write at most, so that the progress moves while a large tensor is written. */
    private static final long CHUNK_BYTES = 64L << 20;

    private final Map<String, Item> items = new LinkedHashMap<>();
    private final Map<String, String> metadata = new LinkedHashMap<>();
    private Consumer<String> listener = name -> {};

    /** Adds a tensor that exists already. */
    public SafetensorsWriter add(HostTensor tensor) {
        return add(tensor.name(), tensor.type(), tensor.shape(), tensor::data);
    }

    /**
     * Adds a tensor that is produced when its turn comes.
     *
     * @throws IllegalArgumentException if the name is taken or reserved, or the shape is impossible
     */
    public SafetensorsWriter add(String name, ElementType type, long[] shape, Source source) {
        Objects.requireNonNull(source, "source");
        if (name.equals("__metadata__")) {
            throw new IllegalArgumentException("the name __metadata__ is reserved");
        }
        var item = new Item(name, type, shape.clone(), source);
        item.bytes();
        if (items.putIfAbsent(name, item) != null) {
            throw new IllegalArgumentException(
                    "tensor %s is added twice".formatted(Names.quote(name)));
        }
        return this;
    }

    /** Whether a tensor of this name has been added. */
    public boolean contains(String name) {
        return items.containsKey(name);
    }

    /** Sets an entry of __metadata__. */
    public SafetensorsWriter metadata(String key, String value) {
        metadata.put(Objects.requireNonNull(key, "key"), Objects.requireNonNull(value, "value"));
        return this;
    }

    /** Calls back with the name of each tensor after it was written. */
    public SafetensorsWriter onWritten(Consumer<String> callback) {
        listener = Objects.requireNonNull(callback, "callback");
        return this;
    }

    /** How many tensors have been added. */
    public int size() {
        return items.size();
    }

    /**
     * Writes the file, replacing an older one only when the new one is complete.
     *
     * @throws IOException if writing fails or a source fails; nothing is left behind then
     */
    public void write(Path target) throws IOException {
        var ordered = new ArrayList<>(items.values());
        ordered.sort(Comparator.comparingInt((Item item) -> item.type().bytes()).reversed());
        byte[] header = header(ordered);
        AtomicFile.write(
                target,
                channel -> {
                    ByteBuffer length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
                    writeFully(channel, length.putLong(header.length).flip());
                    writeFully(channel, ByteBuffer.wrap(header));
                    for (Item item : ordered) {
                        writeItem(channel, item);
                        listener.accept(item.name());
                    }
                });
    }

    private byte[] header(List<Item> ordered) {
        var text = new StringBuilder("{");
        if (!metadata.isEmpty()) {
            text.append("\"__metadata__\":{");
            for (var entry : metadata.entrySet()) {
                quote(text, entry.getKey()).append(':');
                quote(text, entry.getValue()).append(',');
            }
            endObject(text).append(',');
        }
        long offset = 0;
        for (Item item : ordered) {
            quote(text, item.name());
            text.append(":{\"dtype\":\"").append(item.type().name()).append("\",\"shape\":[");
            for (int i = 0; i < item.shape().length; i++) {
                text.append(i == 0 ? "" : ",").append(item.shape()[i]);
            }
            text.append("],\"data_offsets\":[").append(offset).append(',');
            offset = Math.addExact(offset, item.bytes());
            text.append(offset).append("]},");
        }
        endObject(text);
        byte[] utf8 = text.toString().getBytes(StandardCharsets.UTF_8);
        // Spaces up to a multiple of eight keep the data aligned in a mapped file.
        int padded = (utf8.length + 7) / 8 * 8;
        byte[] header = new byte[padded];
        Arrays.fill(header, (byte) ' ');
        System.arraycopy(utf8, 0, header, 0, utf8.length);
        return header;
    }

    private static StringBuilder quote(StringBuilder text, String value) {
        text.append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                text.append('\\').append(c);
            } else if (c < ' ') {
                text.append("\\u%04x".formatted((int) c));
            } else {
                text.append(c);
            }
        }
        return text.append('"');
    }

    /** Puts the brace where the last member's comma is. */
    private static StringBuilder endObject(StringBuilder text) {
        if (text.charAt(text.length() - 1) == ',') {
            text.setLength(text.length() - 1);
        }
        return text.append('}');
    }

    private static void writeItem(FileChannel channel, Item item) throws IOException {
        MemorySegment bytes = item.source().bytes();
        if (bytes.byteSize() != item.bytes()) {
            throw new IOException(
                    "tensor %s was declared with %d bytes, but its source gave %d"
                            .formatted(Names.quote(item.name()), item.bytes(), bytes.byteSize()));
        }
        for (long done = 0; done < bytes.byteSize(); done += CHUNK_BYTES) {
            long count = Math.min(CHUNK_BYTES, bytes.byteSize() - done);
            writeFully(channel, bytes.asSlice(done, count).asByteBuffer());
        }
    }

    private static void writeFully(FileChannel channel, ByteBuffer buffer) throws IOException {
        while (buffer.hasRemaining()) {
            channel.write(buffer);
        }
    }
}
