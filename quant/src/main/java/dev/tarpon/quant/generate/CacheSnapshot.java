package dev.tarpon.quant.generate;

import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.kv.KvCache;
import dev.tarpon.kv.KvSequence;
import dev.tarpon.quant.kv.MassiveActivations;
import dev.tarpon.quant.kv.Sha256;
import dev.tarpon.quant.kv.SinkPolicy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * A cache with its text in a safetensors file, to go on from: the pages as they are, in the order
 * of the sequence, and the recent stores. Pages are the same on all devices, so a run may go on on
 * another one.
 *
 * <p>Tensors: {@code tokens} I32, the text, which is longer than the cache where its last tokens
 * have not been run; for each layer {@code layers.N.pages} U8 [pages, page_bytes], if there is any
 * {@code layers.N.recent} U8 [recent_bytes], and where sinks are found by massive activations
 * {@code layers.N.sinks} I32, their positions, and {@code layers.N.massive} F32 [20], the
 * magnitudes that decide on further ones. The metadata has the format and its version, that of the
 * pages, the cache's options, which tokens are sinks, what identifies model and calibration, and
 * the SHA-256 of all tensors' bytes; a file is refused unless all of it is as the cache needs it.
 */
public final class CacheSnapshot {
    private static final String FORMAT = "tarpon-kv-snapshot";
    private static final String VERSION = "2";

    private CacheSnapshot() {}

    /**
     * Writes a snapshot; the file appears when it is complete.
     *
     * @param attention of one sequence
     * @param tokens the text, at least as long as the cache
     * @param identity what model and calibration are recognised by
     */
    public static void save(
            Path path, CachedAttention attention, int[] tokens, Map<String, String> identity)
            throws IOException {
        requireOne(attention);
        if (tokens.length < attention.length()) {
            throw new IllegalArgumentException(
                    "%d tokens of text for a cache of %d"
                            .formatted(tokens.length, attention.length()));
        }
        try (Arena arena = Arena.ofConfined()) {
            List<HostTensor> tensors = new ArrayList<>();
            tensors.add(
                    new HostTensor(
                            "tokens",
                            ElementType.I32,
                            new long[] {tokens.length},
                            arena.allocateFrom(ValueLayout.JAVA_INT, tokens)));
            for (int layer = 0; layer < attention.config().layers(); layer++) {
                tensors.add(pages(attention, layer, arena));
                if (attention.pool().recent(layer) != null) {
                    tensors.add(recent(attention, layer, arena));
                }
                if (attention.sinkPolicy() == SinkPolicy.MASSIVE) {
                    tensors.addAll(massive(attention.massive(layer, 0), layer, arena));
                }
            }
            var writer = new SafetensorsWriter();
            expected(attention, identity).forEach(writer::metadata);
            writer.metadata("length", Integer.toString(attention.length()));
            writer.metadata("sha256", Sha256.of(tensors));
            tensors.forEach(writer::add);
            writer.write(path);
        }
    }

    private static void requireOne(CachedAttention attention) {
        if (attention.batch() != 1) {
            throw new IllegalArgumentException(
                    "%d sequences; a snapshot has one".formatted(attention.batch()));
        }
    }

    /** What a file must say to be this cache's. */
    private static Map<String, String> expected(
            CachedAttention attention, Map<String, String> identity) {
        KvCache plan = attention.plan(0);
        var expected = new LinkedHashMap<String, String>();
        expected.put("format", FORMAT);
        expected.put("version", VERSION);
        expected.put("page_format_version", Integer.toString(plan.formatVersion()));
        expected.put("layers", Integer.toString(attention.config().layers()));
        // The longest sequence is no property of the pages: it may be another one when they return.
        expected.put("sinks", attention.sinkPolicy().name().toLowerCase(Locale.ROOT));
        expected.put("options", plan.options().toBuilder().maxTokens(1).build().toString());
        expected.putAll(identity);
        return expected;
    }

    private static HostTensor pages(CachedAttention attention, int layer, Arena arena) {
        long pageBytes = attention.plan(layer).pageBytes();
        MemorySegment all = download(attention.pool().pages(layer), arena);
        KvSequence sequence = attention.sequence(0);
        int count = attention.pool().options().pagesOf(attention.length());
        MemorySegment used = arena.allocate(Math.max(1, count * pageBytes), 64);
        for (int i = 0; i < count; i++) {
            MemorySegment.copy(all, sequence.page(i) * pageBytes, used, i * pageBytes, pageBytes);
        }
        return new HostTensor(
                pagesName(layer),
                ElementType.U8,
                new long[] {count, pageBytes},
                used.asSlice(0, count * pageBytes));
    }

    private static HostTensor recent(CachedAttention attention, int layer, Arena arena) {
        long bytes = attention.plan(layer).recentBytes();
        MemorySegment all = download(attention.pool().recent(layer), arena);
        long at = attention.sequence(0).recentIndex() * bytes;
        return new HostTensor(
                recentName(layer), ElementType.U8, new long[] {bytes}, all.asSlice(at, bytes));
    }

    private static List<HostTensor> massive(MassiveActivations massive, int layer, Arena arena) {
        int[] positions = massive.positions();
        float[] largest = massive.largest();
        return List.of(
                new HostTensor(
                        sinksName(layer),
                        ElementType.I32,
                        new long[] {positions.length},
                        arena.allocateFrom(ValueLayout.JAVA_INT, positions)),
                HostTensor.ofFloats(arena, massiveName(layer), largest, largest.length));
    }

    private static String pagesName(int layer) {
        return "layers." + layer + ".pages";
    }

    private static String recentName(int layer) {
        return "layers." + layer + ".recent";
    }

    private static String sinksName(int layer) {
        return "layers." + layer + ".sinks";
    }

    private static String massiveName(int layer) {
        return "layers." + layer + ".massive";
    }

    private static MemorySegment download(Tensor tensor, Arena arena) {
        MemorySegment host = arena.allocate(tensor.sizeBytes(), 64);
        tensor.copyTo(host);
        return host;
    }

    /**
     * Brings a snapshot back.
     *
     * @param attention empty, of one sequence, with the options of the one that was saved
     * @param identity what model and calibration are recognised by
     * @return the text
     * @throws FormatException if the file is no snapshot, damaged, or of another cache, model or
     *     calibration; the attention is as it was then
     * @throws IOException if it cannot be read
     */
    public static int[] load(Path path, CachedAttention attention, Map<String, String> identity)
            throws IOException {
        requireOne(attention);
        if (attention.length() != 0) {
            throw new IllegalArgumentException(
                    "the cache has %d tokens already".formatted(attention.length()));
        }
        try (SafetensorsFile file = SafetensorsFile.open(path);
                Arena arena = Arena.ofConfined()) {
            String source = path.toString();
            for (var entry : expected(attention, identity).entrySet()) {
                String actual = file.metadata().get(entry.getKey());
                if (!entry.getValue().equals(actual)) {
                    throw new FormatException(
                            source,
                            "is no snapshot of this cache: its %s is %s, expected %s"
                                    .formatted(
                                            entry.getKey(),
                                            actual == null ? "missing" : Names.quote(actual),
                                            Names.quote(entry.getValue())));
                }
            }
            int length = length(source, file, attention);
            int[] tokens = tokens(source, file, length, attention.config().vocabulary());
            List<HostTensor> tensors = new ArrayList<>();
            tensors.add(file.find("tokens").orElseThrow());
            int pages = attention.pool().options().pagesOf(length);
            for (int layer = 0; layer < attention.config().layers(); layer++) {
                KvCache plan = attention.plan(layer);
                tensors.add(bytes(source, file, pagesName(layer), pages, plan.pageBytes()));
                if (plan.recentBytes() > 0) {
                    tensors.add(bytes(source, file, recentName(layer), plan.recentBytes()));
                }
                if (attention.sinkPolicy() == SinkPolicy.MASSIVE) {
                    tensors.add(sinks(source, file, sinksName(layer), length, plan));
                    tensors.add(massive(source, file, massiveName(layer)));
                }
            }
            String sha256 = Sha256.of(tensors);
            if (!sha256.equals(file.metadata().get("sha256"))) {
                throw new FormatException(
                        source,
                        "is damaged: its tensors have SHA-256 %s, but it says %s"
                                .formatted(sha256, file.metadata().get("sha256")));
            }
            upload(attention, file, pages, arena);
            if (attention.sinkPolicy() == SinkPolicy.MASSIVE) {
                for (int layer = 0; layer < attention.config().layers(); layer++) {
                    attention
                            .massive(layer, 0)
                            .restore(
                                    file.find(sinksName(layer)).orElseThrow().toInts(),
                                    file.find(massiveName(layer)).orElseThrow().toFloats(),
                                    length);
                }
            }
            attention.sequence(0).advance(length);
            return tokens;
        }
    }

    private static int length(String source, SafetensorsFile file, CachedAttention attention)
            throws FormatException {
        String text = file.metadata().getOrDefault("length", "missing");
        int most = attention.pool().options().maxTokens();
        if (!text.matches("[0-9]{1,9}") || Integer.parseInt(text) > most) {
            throw new FormatException(
                    source,
                    "its length is %s; the cache has room for %d"
                            .formatted(Names.quote(text), most));
        }
        return Integer.parseInt(text);
    }

    private static int[] tokens(String source, SafetensorsFile file, int length, int vocabulary)
            throws FormatException {
        HostTensor tensor = file.find("tokens").orElse(null);
        if (tensor == null
                || tensor.type() != ElementType.I32
                || tensor.rank() != 1
                || tensor.elements() < length) {
            throw new FormatException(
                    source,
                    "tensor tokens is %s, expected I32 of %d elements or more"
                            .formatted(tensor == null ? "missing" : tensor.description(), length));
        }
        int[] tokens = tensor.toInts();
        for (int i = 0; i < tokens.length; i++) {
            if (tokens[i] < 0 || tokens[i] >= vocabulary) {
                throw new FormatException(
                        source,
                        "token %d is %d; the vocabulary has %d"
                                .formatted(i, tokens[i], vocabulary));
            }
        }
        return tokens;
    }

    private static HostTensor sinks(
            String source, SafetensorsFile file, String name, int length, KvCache plan)
            throws FormatException {
        HostTensor tensor = file.find(name).orElse(null);
        int most = plan.options().sinkTokens();
        if (tensor == null
                || tensor.type() != ElementType.I32
                || tensor.rank() != 1
                || tensor.elements() > most) {
            throw new FormatException(
                    source,
                    "tensor %s is %s, expected I32 of %d elements at most"
                            .formatted(
                                    name, tensor == null ? "missing" : tensor.description(), most));
        }
        int before = -1;
        for (int position : tensor.toInts()) {
            if (position <= before || position >= length) {
                throw new FormatException(
                        source,
                        "tensor %s has position %d behind %d; positions rise up to the length, %d"
                                .formatted(name, position, before, length));
            }
            before = position;
        }
        return tensor;
    }

    private static HostTensor massive(String source, SafetensorsFile file, String name)
            throws FormatException {
        HostTensor tensor = file.find(name).orElse(null);
        int count = MassiveActivations.ENTRIES;
        if (tensor == null
                || tensor.type() != ElementType.F32
                || !Arrays.equals(tensor.shape(), new long[] {count})) {
            throw new FormatException(
                    source,
                    "tensor %s is %s, expected F32 [%d]"
                            .formatted(
                                    name,
                                    tensor == null ? "missing" : tensor.description(),
                                    count));
        }
        return tensor;
    }

    private static HostTensor bytes(String source, SafetensorsFile file, String name, long... shape)
            throws FormatException {
        HostTensor tensor = file.find(name).orElse(null);
        if (tensor == null
                || tensor.type() != ElementType.U8
                || !Arrays.equals(tensor.shape(), shape)) {
            throw new FormatException(
                    source,
                    "tensor %s is %s, expected U8 %s"
                            .formatted(
                                    name,
                                    tensor == null ? "missing" : tensor.description(),
                                    Shapes.text(shape)));
        }
        return tensor;
    }

    private static void upload(
            CachedAttention attention, SafetensorsFile file, int pages, Arena arena) {
        KvSequence sequence = attention.sequence(0);
        for (int layer = 0; layer < attention.config().layers(); layer++) {
            long pageBytes = attention.plan(layer).pageBytes();
            Tensor memory = attention.pool().pages(layer);
            MemorySegment all = download(memory, arena);
            MemorySegment saved = file.find(pagesName(layer)).orElseThrow().data();
            for (int i = 0; i < pages; i++) {
                MemorySegment.copy(
                        saved, i * pageBytes, all, sequence.page(i) * pageBytes, pageBytes);
            }
            memory.copyFrom(all);
            Tensor recent = attention.pool().recent(layer);
            if (recent != null) {
                // One sequence: its block is all there is.
                recent.copyFrom(file.find(recentName(layer)).orElseThrow().data());
            }
        }
    }
}
