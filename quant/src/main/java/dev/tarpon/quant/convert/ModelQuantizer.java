package dev.tarpon.quant.convert;

import dev.tarpon.DType;
import dev.tarpon.MarlinWeights;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.Tarpon;
import dev.tarpon.TarponException;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.quant.convert.ModelSource.LinearWeight;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.function.Consumer;

/**
 * Writes a model with quantised linear layers: weights in floating point are rounded to 4 bits;
 * layers that are quantised already keep their codes. What MARLIN order can hold becomes
 * LAYER.qweight and LAYER.scales in that order; anything else plain LAYER.codes, LAYER.scales and,
 * where there are any, LAYER.zeros and LAYER.g_idx. The metadata have the true sizes as LAYER.shape
 * and, of layers that were quantised already, the format as LAYER.format. All other tensors are
 * copied.
 *
 * <p>One layer at a time is in memory, whatever the model's size, beside the scales and zeros of
 * layers that were quantised already.
 */
public final class ModelQuantizer {
    private static final long ROW_TILE = 16;
    private static final long COLUMN_TILE = 64;

    private final ModelSource source;
    private final int groupSize;
    private long bytesBefore;
    private long bytesAfter;

    /** A job over an open model. */
    public ModelQuantizer(ModelSource source, int groupSize) {
        this.source = source;
        this.groupSize = groupSize;
    }

    /**
     * Quantises and writes.
     *
     * @param sourceName recorded in the metadata
     * @param written called with the name of each tensor after it was written
     * @throws FormatException naming the weight that cannot be quantised
     */
    public void write(String sourceName, Path target, Consumer<String> written) throws IOException {
        var writer = new SafetensorsWriter().onWritten(written);
        source.metadata().forEach(writer::metadata);
        writer.metadata("tarpon.version", Tarpon.version())
                .metadata(
                        "tarpon.format",
                        source.quantized().isEmpty() ? "marlin_w4" : "of each layer");
        if (!source.linears().isEmpty()) {
            writer.metadata("tarpon.bits", "4")
                    .metadata("tarpon.group", Integer.toString(groupSize));
        }
        try {
            for (QuantizedLayer layer : source.quantized()) {
                var kept = new KeptLayer(layer);
                kept.addTo(writer);
                bytesBefore += layer.bytes();
                bytesAfter += kept.bytes();
            }
            for (LinearWeight linear : source.linears()) {
                add(writer, sourceName, linear);
            }
            for (HostTensor tensor : source.others()) {
                writer.add(tensor);
            }
        } catch (IllegalArgumentException nameTaken) {
            throw new FormatException(sourceName, nameTaken.getMessage(), nameTaken);
        }
        writer.write(target);
    }

    /** About how many tensors {@link #write} writes: layers with zeros have one more. */
    public int tensorCount() {
        return 2 * (source.linears().size() + source.quantized().size()) + source.others().size();
    }

    /** Bytes of the linear layers' weights in the source. */
    public long bytesBefore() {
        return bytesBefore;
    }

    /** Bytes of the linear layers' weights and scales in the result. */
    public long bytesAfter() {
        return bytesAfter;
    }

    private void add(SafetensorsWriter writer, String sourceName, LinearWeight linear) {
        long n = linear.outFeatures();
        long k = linear.inFeatures();
        long paddedN = Math.ceilDiv(n, COLUMN_TILE) * COLUMN_TILE;
        long[] qweightShape = {Math.ceilDiv(k, ROW_TILE), 2 * paddedN};
        long groups = groupSize == -1 ? 1 : Math.ceilDiv(k, (long) groupSize);
        long[] scalesShape = {groups, paddedN};
        var packed = new PackedLayer(sourceName, linear);
        String layer = linear.layer();
        writer.add(layer + ".qweight", ElementType.I32, qweightShape, packed::qweight);
        writer.add(layer + ".scales", ElementType.F16, scalesShape, packed::scales);
        writer.metadata(linear.layer() + ".shape", Shapes.text(n, k));
        bytesBefore += linear.tensor().data().byteSize();
        bytesAfter +=
                Shapes.elements(qweightShape) * ElementType.I32.bytes()
                        + Shapes.elements(scalesShape) * ElementType.F16.bytes();
    }

    /**
     * Packs a layer when the writer comes to its qweight. Of the result only the scales, a
     * thirtieth of it, are kept until their turn: the writer puts 4-byte elements before 2-byte
     * ones.
     */
    private final class PackedLayer {
        private final String sourceName;
        private final LinearWeight linear;
        private MemorySegment scales;

        PackedLayer(String sourceName, LinearWeight linear) {
            this.sourceName = sourceName;
            this.linear = linear;
        }

        MemorySegment qweight() throws FormatException {
            HostTensor tensor = linear.tensor();
            long n = linear.outFeatures();
            long k = linear.inFeatures();
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment weight =
                        linear.outFeaturesFirst()
                                ? tensor.aligned(arena)
                                : transposed(tensor, arena);
                MarlinWeights marlin =
                        QuantizedWeights.quantize(weight, dtype(tensor), n, k, groupSize)
                                .toMarlin();
                scales = marlin.scales();
                return marlin.qweight();
            } catch (TarponException e) {
                throw new FormatException(
                        sourceName,
                        "tensor %s cannot be quantised: %s"
                                .formatted(Names.quote(tensor.name()), e.getMessage()),
                        e);
            }
        }

        MemorySegment scales() {
            MemorySegment result = scales;
            scales = null;
            return result;
        }
    }

    private static DType dtype(HostTensor tensor) {
        return switch (tensor.type()) {
            case F32 -> DType.F32;
            case F16 -> DType.F16;
            case BF16 -> DType.BF16;
            default -> throw new IllegalArgumentException(tensor.description());
        };
    }

    /** The matrix [K, N] as [N, K], element by element whatever their type. */
    private static MemorySegment transposed(HostTensor tensor, Arena arena) {
        long rows = tensor.dimension(0);
        long columns = tensor.dimension(1);
        int bytes = tensor.type().bytes();
        MemorySegment result = arena.allocate(tensor.data().byteSize(), 64);
        for (long r = 0; r < rows; r++) {
            for (long c = 0; c < columns; c++) {
                long from = (r * columns + c) * bytes;
                long to = (c * rows + r) * bytes;
                MemorySegment.copy(tensor.data(), from, result, to, bytes);
            }
        }
        return result;
    }
}
