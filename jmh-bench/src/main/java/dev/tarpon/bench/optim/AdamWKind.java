package dev.tarpon.bench.optim;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.optim.StateFormat;

import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;

/** The implementations of {@link AdamW} that are compared; fp32 parameters and gradients in all. */
public enum AdamWKind {
    JAVA_FP32("java-fp32", null, 28),
    TARPON_FP32("tarpon-fp32", StateFormat.F32, 28),
    TARPON_8BIT("tarpon-8bit", StateFormat.DYNAMIC8, 16 + 4 * 4.0 / 256),
    TARPON_FP8("tarpon-fp8", StateFormat.FP8, 16 + 4 * 8.0 / 128);

    private static final int PERIOD = 1_000_003;

    private final String label;
    private final StateFormat format;
    private final double bytes;

    AdamWKind(String label, StateFormat format, double bytes) {
        this.label = label;
        this.format = format;
        this.bytes = bytes;
    }

    /** The kind with this label. */
    public static AdamWKind of(String label) {
        return Arrays.stream(values())
                .filter(kind -> kind.label.equals(label))
                .findFirst()
                .orElseThrow(
                        () ->
                                new IllegalArgumentException(
                                        "unknown optimizer \"%s\"".formatted(label)));
    }

    public String label() {
        return label;
    }

    /** Bytes that a step moves for each parameter: p and states read and written, g read. */
    public double bytesPerParameter() {
        return bytes;
    }

    /** Whether this is something to compare with on that kind of device. */
    public boolean appliesTo(DeviceKind kind) {
        return format != null || kind == DeviceKind.CPU;
    }

    /**
     * An optimizer of normally distributed values; the same for all kinds.
     *
     * @param device of which Tarpon's are a part; the plain loop does not use it
     * @param tensors how many tensors the parameters are in, of sizes from 1 to 8 in turn
     */
    public AdamW create(Device device, int size, int tensors) {
        float[] parameter = normals(size, 1);
        float[] gradient = normals(size, 2);
        return format == null
                ? new JavaAdamW(parameter, gradient)
                : new TarponAdamW(device, format, parameter, gradient, borders(size, tensors));
    }

    /** Normally distributed, in a period of a million, so that many do not take long. */
    private static float[] normals(int size, long seed) {
        Random random = new Random(seed);
        float[] values = new float[size];
        for (int i = 0; i < size; i++) {
            values[i] = i < PERIOD ? (float) random.nextGaussian() : values[i - PERIOD];
        }
        return values;
    }

    /** Where the tensors begin, and the end of the last. */
    private static int[] borders(int size, int tensors) {
        long units = IntStream.range(0, tensors).mapToLong(i -> 1 + i % 8).sum();
        int[] borders = new int[tensors + 1];
        long before = 0;
        for (int i = 0; i < tensors; i++) {
            before += 1 + i % 8;
            borders[i + 1] = (int) (size * before / units);
            if (borders[i + 1] == borders[i]) {
                throw new IllegalArgumentException(
                        "%d parameters are too few for %d tensors".formatted(size, tensors));
            }
        }
        return borders;
    }
}
