package dev.tarpon.format;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The JSON header of a safetensors file, parsed and checked strictly.
 *
 * <p>The header is read value by value into exactly the structure that the format has, so that
 * nesting, size and repetition of a hostile header cost no more memory than its own length. What
 * the reference implementation refuses is refused here: keys that repeat, unknown element types,
 * offsets that overlap, leave holes or miss the data's end, and sizes that do not match the shape.
 */
final class SafetensorsHeader {
    /** Where a tensor lies, in bytes from the beginning of the data section. */
    record Entry(String name, ElementType type, long[] shape, long begin, long end) {}

    private static final String METADATA = "__metadata__";
    private static final int MOST_DIMENSIONS = 64;

    private final String source;
    private final JsonScanner json;
    private final Map<String, Entry> entries = new HashMap<>();
    private Map<String, String> metadata;

    private SafetensorsHeader(String source, JsonScanner json) {
        this.source = source;
        this.json = json;
    }

    /** Tensors in the order of their data, and the metadata in the order of the file. */
    record Contents(List<Entry> entries, Map<String, String> metadata) {}

    /**
     * Parses a header.
     *
     * @param source the file, for messages
     * @param text exactly the header's bytes
     * @param dataBytes how many bytes follow the header
     */
    static Contents parse(String source, MemorySegment text, long dataBytes) throws IOException {
        var decoder =
                StandardCharsets.UTF_8
                        .newDecoder()
                        .onMalformedInput(CodingErrorAction.REPORT)
                        .onUnmappableCharacter(CodingErrorAction.REPORT);
        try {
            var json = new JsonScanner(source, decoder.decode(text.asByteBuffer()));
            var header = new SafetensorsHeader(source, json);
            header.readTensors();
            List<Entry> ordered = header.checkLayout(dataBytes);
            return new Contents(ordered, header.metadata == null ? Map.of() : header.metadata);
        } catch (CharacterCodingException e) {
            throw new SafetensorsException(source, "header is not valid UTF-8", e);
        }
    }

    private void readTensors() throws IOException {
        json.readObject(
                "the header",
                name -> {
                    if (name.equals(METADATA)) {
                        readMetadata();
                    } else if (entries.containsKey(name)) {
                        throw failure("tensor %s appears twice".formatted(Names.quote(name)));
                    } else {
                        entries.put(name, readEntry(name));
                    }
                });
        if (json.peek() != JsonScanner.Token.END) {
            throw failure("header is not valid JSON: a second value follows the first");
        }
    }

    private void readMetadata() throws IOException {
        if (metadata != null) {
            throw failure(METADATA + " appears twice");
        }
        metadata = new LinkedHashMap<>();
        json.readObject(
                METADATA,
                key -> {
                    String value = json.readString(METADATA + " " + Names.quote(key));
                    if (metadata.put(key, value) != null) {
                        throw failure(
                                "%s key %s appears twice".formatted(METADATA, Names.quote(key)));
                    }
                });
    }

    /** The members of a tensor's entry, null until they were read. */
    private static final class Members {
        private ElementType type;
        private long[] shape;
        private long[] offsets;
    }

    private Entry readEntry(String name) throws IOException {
        String where = "tensor " + Names.quote(name);
        var members = new Members();
        json.readObject(where, key -> readMember(where, key, members));
        if (members.type == null || members.shape == null || members.offsets == null) {
            String missing =
                    members.type == null
                            ? "dtype"
                            : members.shape == null ? "shape" : "data_offsets";
            throw failure("%s: %s is missing".formatted(where, missing));
        }
        if (members.offsets.length != 2) {
            throw failure(
                    "%s: data_offsets %s must be two numbers"
                            .formatted(where, Shapes.text(members.offsets)));
        }
        return new Entry(name, members.type, members.shape, members.offsets[0], members.offsets[1]);
    }

    private void readMember(String where, String key, Members members) throws IOException {
        boolean repeated;
        switch (key) {
            case "dtype" -> {
                repeated = members.type != null;
                members.type = readType(where);
            }
            case "shape" -> {
                repeated = members.shape != null;
                members.shape = readCounts(where + " shape", MOST_DIMENSIONS);
            }
            case "data_offsets" -> {
                repeated = members.offsets != null;
                members.offsets = readCounts(where + " data_offsets", 2);
            }
            default -> throw failure("%s: unknown key %s".formatted(where, Names.quote(key)));
        }
        if (repeated) {
            throw failure("%s: %s appears twice".formatted(where, key));
        }
    }

    private ElementType readType(String where) throws IOException {
        String label = json.readString(where + " dtype");
        return ElementType.ofName(label)
                .orElseThrow(
                        () -> failure("%s: unknown dtype %s".formatted(where, Names.quote(label))));
    }

    /** An array of non-negative integers, at most `most` of them. */
    private long[] readCounts(String where, int most) throws IOException {
        var counts = new ArrayList<Long>();
        json.readArray(
                where,
                () -> {
                    if (counts.size() == most) {
                        throw failure("%s has more than %d numbers".formatted(where, most));
                    }
                    counts.add(parseCount(where, json.readNumber(where)));
                });
        return counts.stream().mapToLong(Long::longValue).toArray();
    }

    private long parseCount(String where, String literal) throws SafetensorsException {
        // The token is a JSON number already; only plain digits are a count.
        if (literal.chars().allMatch(c -> c >= '0' && c <= '9')) {
            try {
                return Long.parseLong(literal);
            } catch (NumberFormatException e) {
                throw failure("%s: %s is too large".formatted(where, Names.printable(literal)));
            }
        }
        throw failure(
                "%s: %s is not a non-negative integer".formatted(where, Names.printable(literal)));
    }

    /** Sorts the tensors by their data and checks that they tile it without gap or overlap. */
    private List<Entry> checkLayout(long dataBytes) throws SafetensorsException {
        var ordered = new ArrayList<>(entries.values());
        ordered.sort(
                Comparator.comparingLong(Entry::begin)
                        .thenComparingLong(Entry::end)
                        .thenComparing(Entry::name));
        long reached = 0;
        String previous = "the beginning of the data";
        for (Entry entry : ordered) {
            String where = "tensor " + Names.quote(entry.name());
            String offsets = Shapes.text(entry.begin(), entry.end());
            if (entry.end() < entry.begin()) {
                throw failure("%s: data_offsets %s run backwards".formatted(where, offsets));
            }
            if (entry.end() > dataBytes) {
                throw failure(
                        "%s: data_offsets %s reach beyond the %d bytes of data"
                                .formatted(where, offsets, dataBytes));
            }
            checkSize(entry, where, offsets);
            if (entry.begin() != reached) {
                throw failure(
                        "%s: data_offsets %s %s %s, which ends at %d"
                                .formatted(
                                        where,
                                        offsets,
                                        entry.begin() < reached ? "overlap" : "leave a gap after",
                                        previous,
                                        reached));
            }
            reached = entry.end();
            previous = where;
        }
        if (reached != dataBytes) {
            throw failure(
                    "%d bytes of data follow the header, but its tensors end at %d"
                            .formatted(dataBytes, reached));
        }
        return ordered;
    }

    private void checkSize(Entry entry, String where, String offsets) throws SafetensorsException {
        long expected;
        try {
            expected =
                    Math.multiplyExact(Shapes.elements(entry.shape()), (long) entry.type().bytes());
        } catch (ArithmeticException e) {
            throw failure(
                    "%s: shape %s is larger than any file"
                            .formatted(where, Shapes.text(entry.shape())));
        }
        if (entry.end() - entry.begin() != expected) {
            throw failure(
                    "%s: %s %s needs %d bytes, but data_offsets %s hold %d"
                            .formatted(
                                    where,
                                    entry.type(),
                                    Shapes.text(entry.shape()),
                                    expected,
                                    offsets,
                                    entry.end() - entry.begin()));
        }
    }

    private SafetensorsException failure(String detail) {
        return new SafetensorsException(source, detail);
    }
}
