package dev.tarpon.bench.optim;

import dev.tarpon.Device;
import dev.tarpon.DeviceKind;
import dev.tarpon.optim.StateFormat;

import java.util.Arrays;
import java.util.Random;

/** The implementations of {@link AdamW} that are compared; fp32 parameters and gradients in all. */
public enum AdamWKind {
    JAVA_FP32("java-fp32", null, 28),
    TARPON_FP32("tarpon-fp32", StateFormat.F32, 28),
    TARPON_8BIT("tarpon-8bit", StateFormat.DYNAMIC8, 16 + 4 * 4.0 / 256),
    TARPON_FP8("tarpon-fp8", StateFormat.FP8, 16 + 4 * 8.0 / 128);

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
     */
    public AdamW create(Device device, int size) {
        Random random = new Random(1);
        float[] parameter = new float[size];
        float[] gradient = new float[size];
        for (int i = 0; i < size; i++) {
            parameter[i] = (float) random.nextGaussian();
            gradient[i] = (float) random.nextGaussian();
        }
        return format == null
                ? new JavaAdamW(parameter, gradient)
                : new TarponAdamW(device, format, parameter, gradient);
    }
}
