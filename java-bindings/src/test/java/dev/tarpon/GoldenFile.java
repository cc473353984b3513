package dev.tarpon;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The tensors of a well-formed safetensors file, as the golden files are. */
final class GoldenFile {
    private static final Pattern ENTRY =
            Pattern.compile(
                    "\"(\\w+)\"\\s*:\\s*\\{\\s*\"dtype\"\\s*:\\s*\"\\w+\"\\s*,\\s*\"shape\"\\s*:"
                            + "\\s*\\[[\\d,\\s]*]\\s*,\\s*\"data_offsets\"\\s*:\\s*"
                            + "\\[\\s*(\\d+)\\s*,\\s*(\\d+)\\s*]");

    private final String name;
    private final Map<String, byte[]> tensors = new HashMap<>();

    GoldenFile(Path file) throws IOException {
        name = file.getFileName().toString();
        ByteBuffer content =
                ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        int headerLength = Math.toIntExact(content.getLong());
        String header =
                new String(content.array(), Long.BYTES, headerLength, StandardCharsets.UTF_8);
        Matcher entry = ENTRY.matcher(header);
        while (entry.find()) {
            int begin = Integer.parseInt(entry.group(2));
            byte[] bytes = new byte[Integer.parseInt(entry.group(3)) - begin];
            content.get(Long.BYTES + headerLength + begin, bytes);
            tensors.put(entry.group(1), bytes);
        }
    }

    /** The elements of a tensor, on the Java heap. */
    MemorySegment tensor(String key) {
        byte[] bytes = tensors.get(key);
        if (bytes == null) {
            throw new NoSuchElementException(name + " has no tensor " + key);
        }
        return MemorySegment.ofArray(bytes);
    }
}
