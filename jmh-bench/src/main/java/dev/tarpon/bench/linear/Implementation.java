package dev.tarpon.bench.linear;

import dev.tarpon.DType;
import dev.tarpon.DeviceKind;
import dev.tarpon.LinearArithmetic;

import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Collectors;

/** What can be timed: Tarpon and its baselines. */
public enum Implementation {
    /** Tarpon's 4-bit linear. */
    TARPON,
    /** The same with activations rounded to 8 bits. */
    TARPON_INT8,
    /** A plain Java loop over fp32 weights. */
    JAVA_FP32,
    /** A plain Java loop that dequantises 4-bit weights as it goes. */
    JAVA_W4,
    /** cuBLAS on 16-bit weights through JCublas, as a Java program gets it today. */
    JCUBLAS,
    /** cuBLAS on 16-bit weights through a binding of a few lines; any cuBLAS that is installed. */
    CUBLAS;

    public static Implementation of(String label) {
        return Arrays.stream(values())
                .filter(value -> value.label().equals(label))
                .findFirst()
                .orElseThrow(
                        () ->
                                new IllegalArgumentException(
                                        "unknown implementation \""
                                                + label
                                                + "\"; there are "
                                                + Arrays.stream(values())
                                                        .map(Implementation::label)
                                                        .collect(Collectors.joining(", "))));
    }

    /** The name in parameters and reports, such as "java-w4". */
    public String label() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    /** Whether this is something to compare with on that kind of device. */
    public boolean appliesTo(DeviceKind kind) {
        return switch (this) {
            case TARPON -> true;
            case TARPON_INT8, JAVA_FP32, JAVA_W4 -> kind == DeviceKind.CPU;
            case JCUBLAS, CUBLAS -> kind == DeviceKind.CUDA;
        };
    }

    /** Why this cannot run here, although it applies; empty if it can. */
    public Optional<String> unavailableReason(LinearCase layer) {
        Optional<String> noDevice = layer.device().unavailableReason();
        if (noDevice.isPresent()) {
            return noDevice;
        }
        return switch (this) {
            case TARPON ->
                    layer.dtype() == DType.F32 && layer.device().kind() == DeviceKind.CUDA
                            ? Optional.of("fp32 activations are served on the CPU only")
                            : Optional.empty();
            case TARPON_INT8, JAVA_FP32, JAVA_W4 -> Optional.empty();
            case JCUBLAS -> cublasLimits(layer).or(JCublasLinear::unavailableReason);
            case CUBLAS -> cublasLimits(layer).or(CublasLinear::unavailableReason);
        };
    }

    private static Optional<String> cublasLimits(LinearCase layer) {
        if (layer.dtype() == DType.F32) {
            return Optional.of("the cuBLAS baselines are for 16-bit activations");
        }
        return layer.device().ordinal() == 0
                ? Optional.empty()
                : Optional.of("the cuBLAS baselines run on cuda:0 only");
    }

    /** Bytes that the weights of one layer take. */
    public long weightBytes(LinearCase layer) {
        long weights = layer.inFeatures() * layer.outFeatures();
        long scales = Math.ceilDiv(layer.inFeatures(), LinearCase.GROUP_SIZE) * layer.outFeatures();
        return switch (this) {
            case TARPON, TARPON_INT8 -> weights / 2 + scales * Short.BYTES;
            case JAVA_W4 -> weights / 2 + scales * Float.BYTES;
            case JAVA_FP32 -> weights * Float.BYTES;
            case JCUBLAS, CUBLAS -> weights * Short.BYTES;
        };
    }

    /** Makes the layer ready; the caller closes it. */
    public LinearImplementation create(LinearCase layer) {
        SampleLayer sample = new SampleLayer(layer);
        int sets = layer.weightSets(weightBytes(layer));
        return switch (this) {
            case TARPON -> new TarponLinear(layer, sample, sets, LinearArithmetic.EXACT);
            case TARPON_INT8 ->
                    new TarponLinear(layer, sample, sets, LinearArithmetic.INT8_ACTIVATIONS);
            case JAVA_FP32 -> new JavaFp32Linear(layer, sample, sets);
            case JAVA_W4 -> new JavaW4Linear(layer, sample, sets);
            case JCUBLAS -> new JCublasLinear(layer, sample, sets);
            case CUBLAS -> new CublasLinear(layer, sample, sets);
        };
    }
}
