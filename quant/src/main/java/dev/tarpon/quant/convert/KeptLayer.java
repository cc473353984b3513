package dev.tarpon.quant.convert;

import dev.tarpon.MarlinWeights;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.WeightFormat;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A layer that was quantised already, on its way into a file. It is read once to learn its format,
 * which its contents decide, and once more for its codes; scales and zeros are kept in between.
 */
final class KeptLayer {
    private static final long ROW_TILE = 16;
    private static final long COLUMN_TILE = 64;

    private final QuantizedLayer layer;
    private final WeightFormat format;
    private final boolean marlin;
    private final long n;
    private final long k;
    private final long groups;
    private final MemorySegment scales;
    private final MemorySegment zeros; // or null
    private final MemorySegment inputGroups; // or null
    private long bytes;

    KeptLayer(QuantizedLayer layer) throws IOException {
        this.layer = layer;
        QuantizedWeights weights = layer.reader().read();
        format = weights.format();
        marlin = format.isMarlin() && weights.inputGroups().isEmpty();
        n = weights.outFeatures();
        k = weights.inFeatures();
        groups = weights.groups();
        scales = copy(marlin ? weights.toMarlin().scales() : weights.scales());
        zeros = weights.zeros().map(KeptLayer::copy).orElse(null);
        inputGroups = weights.inputGroups().map(KeptLayer::copy).orElse(null);
    }

    /** On its own, so that the codes beside it are not kept, too. */
    private static MemorySegment copy(MemorySegment segment) {
        return Arena.ofAuto().allocate(segment.byteSize(), Long.BYTES).copyFrom(segment);
    }

    void addTo(SafetensorsWriter writer) {
        String name = layer.layer();
        writer.metadata(name + ".shape", Shapes.text(n, k));
        writer.metadata(
                name + ".format",
                "%s %s %s group %d in %s order"
                        .formatted(
                                format.weightType(),
                                format.zeroType(),
                                format.scaleType(),
                                format.groupSize(),
                                marlin ? "MARLIN" : "plain"));
        if (marlin) {
            addMarlin(writer, name);
        } else {
            addPlain(writer, name);
        }
    }

    private void addMarlin(SafetensorsWriter writer, String name) {
        long paddedN = Math.ceilDiv(n, COLUMN_TILE) * COLUMN_TILE;
        long[] words = {Math.ceilDiv(k, ROW_TILE), 2 * paddedN};
        add(writer, name + ".qweight", ElementType.I32, words, this::qweight);
        long[] shape = {groups, paddedN};
        add(writer, name + ".scales", ElementType.F16, shape, () -> scales);
    }

    private MemorySegment qweight() throws IOException {
        MarlinWeights packed = layer.reader().read().toMarlin();
        return packed.qweight();
    }

    private void addPlain(SafetensorsWriter writer, String name) {
        ElementType scaleType = ElementType.valueOf(format.scaleType().name());
        long[] grid = {groups, n};
        add(
                writer,
                name + ".codes",
                ElementType.U8,
                new long[] {k, n},
                () -> layer.reader().read().codes());
        add(writer, name + ".scales", scaleType, grid, () -> scales);
        if (zeros != null) {
            boolean integer = format.zeroType() == ZeroType.INTEGER;
            ElementType type = integer ? ElementType.U8 : scaleType;
            add(writer, name + ".zeros", type, grid, () -> zeros);
        }
        if (inputGroups != null) {
            add(writer, name + ".g_idx", ElementType.I32, new long[] {k}, () -> inputGroups);
        }
    }

    private void add(
            SafetensorsWriter writer,
            String name,
            ElementType type,
            long[] shape,
            SafetensorsWriter.Source source) {
        writer.add(name, type, shape, source);
        bytes += Shapes.elements(shape) * type.bytes();
    }

    /** Bytes of what was added. */
    long bytes() {
        return bytes;
    }
}
