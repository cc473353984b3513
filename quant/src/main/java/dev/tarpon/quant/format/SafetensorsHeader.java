package dev.tarpon.quant.format;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
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
 * <p>The header is read token by token into exactly the structure that the format has, so that
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
    private final JsonReader json;
    private final Map<String, Entry> entries = new HashMap<>();
    private Map<String, String> metadata;

    private SafetensorsHeader(String source, JsonReader json) {
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
    static Contents parse(String source, InputStream text, long dataBytes) throws IOException {
        var decoder =
                StandardCharsets.UTF_8
                        .newDecoder()
                        .onMalformedInput(CodingErrorAction.REPORT)
                        .onUnmappableCharacter(CodingErrorAction.REPORT);
        try (var json = new JsonReader(new InputStreamReader(text, decoder))) {
            json.setStrictness(Strictness.STRICT);
            var header = new SafetensorsHeader(source, json);
            header.readTensors();
            List<Entry> ordered = header.checkLayout(dataBytes);
            return new Contents(ordered, header.metadata == null ? Map.of() : header.metadata);
        } catch (CharacterCodingException e) {
            throw new SafetensorsException(source, "header is not valid UTF-8", e);
        } catch (MalformedJsonException | EOFException | IllegalStateException e) {
            throw new SafetensorsException(
                    source, "header is not valid JSON: " + e.getMessage(), e);
        }
    }

    private void readTensors() throws IOException {
        expect(JsonToken.BEGIN_OBJECT, "the header");
        json.beginObject();
        while (json.hasNext()) {
            String name = json.nextName();
            if (name.equals(METADATA)) {
                readMetadata();
            } else if (entries.containsKey(name)) {
                throw failure("tensor %s appears twice".formatted(Names.quote(name)));
            } else {
                entries.put(name, readEntry(name));
            }
        }
        json.endObject();
        expect(JsonToken.END_DOCUMENT, "the end of the header");
    }

    private void readMetadata() throws IOException {
        if (metadata != null) {
            throw failure(METADATA + " appears twice");
        }
        metadata = new LinkedHashMap<>();
        expect(JsonToken.BEGIN_OBJECT, METADATA);
        json.beginObject();
        while (json.hasNext()) {
            String key = json.nextName();
            expect(JsonToken.STRING, METADATA + " " + Names.quote(key));
            if (metadata.put(key, json.nextString()) != null) {
                throw failure("%s key %s appears twice".formatted(METADATA, Names.quote(key)));
            }
        }
        json.endObject();
    }

    private Entry readEntry(String name) throws IOException {
        String where = "tensor " + Names.quote(name);
        ElementType type = null;
        long[] shape = null;
        long[] offsets = null;
        expect(JsonToken.BEGIN_OBJECT, where);
        json.beginObject();
        while (json.hasNext()) {
            String key = json.nextName();
            boolean repeated;
            switch (key) {
                case "dtype" -> {
                    repeated = type != null;
                    type = readType(where);
                }
                case "shape" -> {
                    repeated = shape != null;
                    shape = readCounts(where + " shape", MOST_DIMENSIONS);
                }
                case "data_offsets" -> {
                    repeated = offsets != null;
                    offsets = readCounts(where + " data_offsets", 2);
                }
                default -> throw failure("%s: unknown key %s".formatted(where, Names.quote(key)));
            }
            if (repeated) {
                throw failure("%s: %s appears twice".formatted(where, key));
            }
        }
        json.endObject();
        if (type == null || shape == null || offsets == null) {
            String missing = type == null ? "dtype" : shape == null ? "shape" : "data_offsets";
            throw failure("%s: %s is missing".formatted(where, missing));
        }
        if (offsets.length != 2) {
            throw failure(
                    "%s: data_offsets %s must be two numbers"
                            .formatted(where, Shapes.text(offsets)));
        }
        return new Entry(name, type, shape, offsets[0], offsets[1]);
    }

    private ElementType readType(String where) throws IOException {
        expect(JsonToken.STRING, where + " dtype");
        String label = json.nextString();
        return ElementType.ofName(label)
                .orElseThrow(
                        () -> failure("%s: unknown dtype %s".formatted(where, Names.quote(label))));
    }

    /** An array of non-negative integers, at most `most` of them. */
    private long[] readCounts(String where, int most) throws IOException {
        expect(JsonToken.BEGIN_ARRAY, where);
        json.beginArray();
        var counts = new ArrayList<Long>();
        while (json.hasNext()) {
            if (counts.size() == most) {
                throw failure("%s has more than %d numbers".formatted(where, most));
            }
            expect(JsonToken.NUMBER, where);
            counts.add(parseCount(where, json.nextString()));
        }
        json.endArray();
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

    private void expect(JsonToken wanted, String where) throws IOException {
        JsonToken found = json.peek();
        if (found != wanted) {
            throw failure("%s: expected %s, found %s".formatted(where, wanted, found));
        }
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
