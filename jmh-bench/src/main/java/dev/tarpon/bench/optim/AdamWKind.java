package dev.tarpon.bench.optim;

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

    /** An optimizer of normally distributed values; the same for all kinds. */
    public AdamW create(int size, int threads) {
        Random random = new Random(1);
        float[] parameter = new float[size];
        float[] gradient = new float[size];
        for (int i = 0; i < size; i++) {
            parameter[i] = (float) random.nextGaussian();
            gradient[i] = (float) random.nextGaussian();
        }
        return format == null
                ? new JavaAdamW(parameter, gradient)
                : new TarponAdamW(format, threads, parameter, gradient);
    }
}
