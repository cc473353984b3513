package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.TarponException;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/**
 * Reads the 4-bit weight of a linear layer from a file in any of its forms.
 *
 * <p>Sizes and group come from the command line, or from the metadata that linear-pack writes (n,
 * k, group), or from the shapes; where two of them disagree that is an error, not a choice.
 */
final class WeightReader {
    private static final long ROW_TILE = 16;
    private static final long COLUMN_TILE = 64;

    private final TensorInputs inputs;
    private final WeightOptions options;

    WeightReader(TensorInputs inputs, WeightOptions options) throws FormatException {
        this.inputs = inputs;
        this.options = options;
        long bits = agreed("bits", (long) options.bits()).orElseThrow();
        if (bits != 4) {
            throw inputs.failure("%d bits per weight; only 4 are supported".formatted(bits));
        }
    }

    /** The group size: --group, the metadata, or 128. */
    int group() throws FormatException {
        Long flag = options.group() == null ? null : options.group().longValue();
        long group = agreed("group", flag).orElse((long) WeightOptions.DEFAULT_GROUP);
        if (group != -1 && (group < 1 || group > Integer.MAX_VALUE)) {
            throw inputs.failure("group %d; expected a size, or -1 for one group".formatted(group));
        }
        return (int) group;
    }

    /** Reads the one form that is there and allowed, or the one that --form asks for. */
    QuantizedWeights read(WeightForm... allowed) throws FormatException {
        WeightForm form = chooseForm(List.of(allowed));
        if (options.prune() && form != WeightForm.WEIGHT) {
            throw inputs.failure(
                    form.toString(), "is quantised already; only a weight can be pruned");
        }
        return switch (form) {
            case WEIGHT -> quantize();
            case CODES -> plain();
            case QWEIGHT -> marlin();
        };
    }

    private WeightForm chooseForm(List<WeightForm> allowed) throws FormatException {
        if (options.form() != null) {
            if (!allowed.contains(options.form())) {
                throw inputs.failure("form %s is not one of %s".formatted(options.form(), allowed));
            }
            return options.form();
        }
        var present = new ArrayList<WeightForm>();
        for (WeightForm form : allowed) {
            if (inputs.has(form.tensors().getFirst())) {
                present.add(form);
            }
        }
        if (present.size() == 1) {
            return present.getFirst();
        }
        String forms =
                allowed.stream()
                        .map(form -> String.join(" and ", form.tensors()))
                        .collect(Collectors.joining("; or "));
        throw inputs.failure(
                present.isEmpty()
                        ? "there is no weight; expected " + forms
                        : "the weight is there as %s; choose with --form".formatted(present));
    }

    private QuantizedWeights quantize() throws FormatException {
        HostTensor weight =
                inputs.matrix("weight", ElementType.F32, ElementType.F16, ElementType.BF16);
        long n = weight.dimension(0);
        long k = weight.dimension(1);
        requireSizes("weight", n, k);
        int group = group();
        try (Arena arena = Arena.ofConfined()) {
            return named(
                    "weight",
                    () -> {
                        DType dtype = dtype(weight.type());
                        MemorySegment values = weight.aligned(arena);
                        if (options.prune()) {
                            values = QuantizedWeights.pruneTwoOfFour(values, dtype, n, k);
                        }
                        return QuantizedWeights.quantize(values, dtype, n, k, group);
                    });
        }
    }

    private QuantizedWeights plain() throws FormatException {
        HostTensor codes = inputs.matrix("codes", ElementType.U8);
        long k = codes.dimension(0);
        long n = codes.dimension(1);
        requireSizes("codes", n, k);
        int group = group();
        HostTensor scales = inputs.matrix("scales", ElementType.F16);
        inputs.requireShape(scales, reason(k, n, group), groups(k, group), n);
        try (Arena arena = Arena.ofConfined()) {
            return named(
                    "codes",
                    () ->
                            QuantizedWeights.of(
                                    codes.aligned(arena), scales.aligned(arena), n, k, group));
        }
    }

    private QuantizedWeights marlin() throws FormatException {
        HostTensor qweight = inputs.matrix("qweight", ElementType.I32);
        long paddedK = Math.multiplyExact(qweight.dimension(0), ROW_TILE);
        long paddedN = qweight.dimension(1) / 2;
        if (qweight.dimension(1) % (2 * COLUMN_TILE) != 0 || paddedN == 0 || paddedK == 0) {
            throw inputs.failure(
                    "qweight",
                    "has shape [%d, %d], expected [Kp / 16, 2 * Np] with Np a multiple of 64",
                    qweight.dimension(0),
                    qweight.dimension(1));
        }
        long k = agreed("k", options.k()).orElse(paddedK);
        long n = agreed("n", options.n()).orElse(paddedN);
        if (Math.ceilDiv(k, ROW_TILE) * ROW_TILE != paddedK
                || Math.ceilDiv(n, COLUMN_TILE) * COLUMN_TILE != paddedN
                || k < 1
                || n < 1) {
            throw inputs.failure(
                    "qweight",
                    "has shape [%d, %d], which is not that of k %d and n %d",
                    qweight.dimension(0),
                    qweight.dimension(1),
                    k,
                    n);
        }
        int group = group();
        HostTensor scales = inputs.matrix("scales_packed", ElementType.F16);
        inputs.requireShape(scales, reason(k, n, group), groups(k, group), paddedN);
        try (Arena arena = Arena.ofConfined()) {
            return named(
                    "qweight",
                    () ->
                            QuantizedWeights.fromMarlin(
                                    qweight.aligned(arena), scales.aligned(arena), n, k, group));
        }
    }

    /** The value of a flag and of the metadata, which must not disagree. */
    private Optional<Long> agreed(String key, Long flag) throws FormatException {
        Optional<Long> recorded = inputs.metadata(key);
        if (flag == null) {
            return recorded;
        }
        if (recorded.isPresent() && !recorded.get().equals(flag)) {
            throw inputs.failure(
                    "metadata '%s' is %d, but --%s is %d"
                            .formatted(key, recorded.get(), key, flag));
        }
        return Optional.of(flag);
    }

    /** The flags and metadata n and k, where given, must be those of the tensor. */
    private void requireSizes(String tensor, long n, long k) throws FormatException {
        if (n == 0 || k == 0) {
            throw inputs.failure(tensor, "is empty: n %d, k %d", n, k);
        }
        long wantedN = agreed("n", options.n()).orElse(n);
        long wantedK = agreed("k", options.k()).orElse(k);
        if (n != wantedN || k != wantedK) {
            throw inputs.failure(
                    tensor, "has n %d and k %d, expected n %d and k %d", n, k, wantedN, wantedK);
        }
    }

    private static long groups(long k, int group) {
        return group == -1 ? 1 : Math.ceilDiv(k, (long) group);
    }

    private static String reason(long k, long n, int group) {
        return "k %d, n %d, group %d".formatted(k, n, group);
    }

    static DType dtype(ElementType type) {
        return switch (type) {
            case F32 -> DType.F32;
            case F16 -> DType.F16;
            case BF16 -> DType.BF16;
            default -> throw new IllegalArgumentException("no floating-point type: " + type);
        };
    }

    /** Adds the tensor's name to what the library says about its contents. */
    private QuantizedWeights named(String tensor, Supplier<QuantizedWeights> make)
            throws FormatException {
        try {
            return make.get();
        } catch (TarponException e) {
            switch (e.status()) {
                case INVALID_ARGUMENT, UNSUPPORTED ->
                        throw inputs.failure(tensor, "is refused: %s", e.getMessage());
                default -> throw e;
            }
        } catch (IllegalArgumentException e) {
            throw inputs.failure(tensor, "is refused: %s", e.getMessage());
        }
    }
}
