package dev.tarpon.quant.kv;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;
import dev.tarpon.kv.KvCalibration;
import dev.tarpon.kv.KvMode;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What calibration has found out about a model's keys, and on what it was: a small safetensors
 * file.
 *
 * <p>Tensors: for each layer {@code layers.N.k_mean} and {@code layers.N.k_deviation} F32
 * [kv_heads, head_dim] of the keys before rotary positions, {@code layers.N.k_rotated_mean} F32 and
 * {@code layers.N.k_order} I32 [kv_heads * head_dim]; and {@code sink_share} F32 [layers,
 * positions]: in what share of the windows a position has one of the largest activations of a
 * layer's input.
 *
 * @param keyValueHeads of every layer
 * @param headDim of every layer
 * @param layers statistics of each
 * @param sinkShare of each layer and position
 * @param source what it was calibrated on
 */
public record ModelCalibration(
        int keyValueHeads,
        int headDim,
        List<Layer> layers,
        float[][] sinkShare,
        CalibrationSource source) {
    private static final String FORMAT = "tarpon-kv-calibration";
    private static final String VERSION = "1";

    /**
     * Means below this many standard deviations of their head are left in the keys. On the models
     * of {@code ./tarpon kv-report} taking them off, too, changes the outputs' errors by 2% at
     * most, in either direction.
     */
    static final double MEAN_THRESHOLD = 0.5;

    /** A position is a sink if it is one in this share of the windows. */
    private static final double SINK_SHARE = 0.5;

    /** The statistics of a layer, each [keyValueHeads * headDim]. */
    public record Layer(
            float[] keyMean, float[] keyDeviation, float[] rotatedMean, int[] keyOrder) {}

    /** What a layer's cache takes of it. */
    public KvCalibration forCache(int layer, KvMode mode) {
        Layer statistics = layers.get(layer);
        return switch (mode) {
            case TARPON ->
                    KvCalibration.ofMean(
                            KeyStatistics.trim(
                                    statistics.keyMean(),
                                    statistics.keyDeviation(),
                                    headDim,
                                    MEAN_THRESHOLD));
            case ROTATEKV -> KvCalibration.ofOrder(statistics.keyOrder());
        };
    }

    /** How many channels of a layer have a mean that mode TARPON takes off. */
    public int meansKept(int layer) {
        int kept = 0;
        for (float mean : forCache(layer, KvMode.TARPON).keyMean()) {
            kept += mean != 0 ? 1 : 0;
        }
        return kept;
    }

    /** By which caches tell calibrations apart: of means and orders. */
    public String sha256() {
        try (Arena arena = Arena.ofConfined()) {
            List<HostTensor> tensors = new ArrayList<>();
            for (Layer layer : layers) {
                float[] mean = layer.keyMean();
                int[] order = layer.keyOrder();
                tensors.add(HostTensor.ofFloats(arena, "k_mean", mean, mean.length));
                tensors.add(
                        new HostTensor(
                                "k_order",
                                ElementType.I32,
                                new long[] {order.length},
                                arena.allocateFrom(ValueLayout.JAVA_INT, order)));
            }
            return Sha256.of(tensors);
        }
    }

    /**
     * How many first tokens carry massive activations in some layer, in most windows: those that a
     * cache should keep in 16 bits.
     */
    public int sinkTokens() {
        int sinks = 0;
        for (float[] shares : sinkShare) {
            for (int position = 0; position < shares.length; position++) {
                if (shares[position] >= SINK_SHARE) {
                    sinks = Math.max(sinks, position + 1);
                }
            }
        }
        return sinks;
    }

    /**
     * Checks that a layer is there and has this shape.
     *
     * @throws FormatException with both shapes
     */
    public void requireLayer(int layer, int expectedHeads, int expectedDim) throws FormatException {
        if (layer < 0
                || layer >= layers.size()
                || expectedHeads != keyValueHeads
                || expectedDim != headDim) {
            throw new FormatException(
                    source.file(),
                    "has %d layers of %d heads of %d; layer %d of %d heads of %d is asked for"
                            .formatted(
                                    layers.size(),
                                    keyValueHeads,
                                    headDim,
                                    layer,
                                    expectedHeads,
                                    expectedDim));
        }
    }

    /** Writes the file; it appears when it is complete. */
    public void save(Path path) throws IOException {
        var writer = new SafetensorsWriter();
        writer.metadata("format", FORMAT).metadata("version", VERSION);
        source.describe(writer);
        try (Arena arena = Arena.ofConfined()) {
            for (int i = 0; i < layers.size(); i++) {
                Layer layer = layers.get(i);
                String prefix = "layers." + i + ".";
                long[] heads = {keyValueHeads, headDim};
                long[] channels = {layer.keyOrder().length};
                writer.add(HostTensor.ofFloats(arena, prefix + "k_mean", layer.keyMean(), heads))
                        .add(
                                HostTensor.ofFloats(
                                        arena, prefix + "k_deviation", layer.keyDeviation(), heads))
                        .add(
                                HostTensor.ofFloats(
                                        arena,
                                        prefix + "k_rotated_mean",
                                        layer.rotatedMean(),
                                        channels));
                MemorySegment order = arena.allocateFrom(ValueLayout.JAVA_INT, layer.keyOrder());
                writer.add(new HostTensor(prefix + "k_order", ElementType.I32, channels, order));
            }
            int positions = sinkShare[0].length;
            float[] shares = new float[sinkShare.length * positions];
            for (int i = 0; i < sinkShare.length; i++) {
                System.arraycopy(sinkShare[i], 0, shares, i * positions, positions);
            }
            writer.add(
                    HostTensor.ofFloats(arena, "sink_share", shares, sinkShare.length, positions));
            writer.write(path);
        }
    }

    /**
     * Reads a file.
     *
     * @throws FormatException naming what is missing, different or not a calibration at all
     * @throws IOException if it cannot be read
     */
    public static ModelCalibration load(Path path) throws IOException {
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            return new Reader(path.toString(), file).read();
        }
    }

    /** Reads with checks. */
    private record Reader(String path, SafetensorsFile file) {
        ModelCalibration read() throws FormatException {
            String format = file.metadata().getOrDefault("format", "none");
            String version = file.metadata().getOrDefault("version", "none");
            if (!format.equals(FORMAT) || !version.equals(VERSION)) {
                throw new FormatException(
                        path,
                        "has format %s, version %s; a calibration has %s, version %s"
                                .formatted(
                                        Names.quote(format),
                                        Names.quote(version),
                                        FORMAT,
                                        VERSION));
            }
            HostTensor shares = tensor("sink_share", ElementType.F32, 2);
            int count = Math.toIntExact(shares.dimension(0));
            long[] heads = tensor("layers.0.k_mean", ElementType.F32, 2).shape();
            long channels = heads[0] * heads[1];
            List<Layer> layers = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                String prefix = "layers." + i + ".";
                layers.add(
                        new Layer(
                                floats(prefix + "k_mean", heads),
                                floats(prefix + "k_deviation", heads),
                                floats(prefix + "k_rotated_mean", channels),
                                order(prefix + "k_order", channels)));
            }
            return new ModelCalibration(
                    Math.toIntExact(heads[0]),
                    Math.toIntExact(heads[1]),
                    List.copyOf(layers),
                    rows(shares),
                    CalibrationSource.read(path, file.metadata()));
        }

        private static float[][] rows(HostTensor shares) {
            float[] values = shares.toFloats();
            int positions = Math.toIntExact(shares.dimension(1));
            float[][] rows = new float[Math.toIntExact(shares.dimension(0))][];
            for (int i = 0; i < rows.length; i++) {
                rows[i] = Arrays.copyOfRange(values, i * positions, (i + 1) * positions);
            }
            return rows;
        }

        private HostTensor tensor(String name, ElementType type, int rank) throws FormatException {
            HostTensor tensor = file.find(name).orElse(null);
            if (tensor == null
                    || tensor.type() != type
                    || tensor.rank() != rank
                    || tensor.elements() == 0) {
                throw new FormatException(
                        path,
                        "tensor %s is %s, expected %s of %d dimensions"
                                .formatted(
                                        Names.quote(name),
                                        tensor == null ? "missing" : tensor.description(),
                                        type,
                                        rank));
            }
            return tensor;
        }

        private HostTensor shaped(String name, ElementType type, long... shape)
                throws FormatException {
            HostTensor tensor = tensor(name, type, shape.length);
            if (!Arrays.equals(tensor.shape(), shape)) {
                throw new FormatException(
                        path,
                        "tensor %s is %s, expected %s"
                                .formatted(
                                        Names.quote(name),
                                        tensor.description(),
                                        Shapes.text(shape)));
            }
            return tensor;
        }

        private float[] floats(String name, long... shape) throws FormatException {
            return shaped(name, ElementType.F32, shape).toFloats();
        }

        private int[] order(String name, long channels) throws FormatException {
            return shaped(name, ElementType.I32, channels).toInts();
        }
    }
}
