package dev.tarpon.quant.cli;

import dev.tarpon.kv.KvMode;
import dev.tarpon.kv.RopeLayout;
import dev.tarpon.quant.kv.KvFormat;

import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** Mode and widths of a cache, for single operations. */
final class KvFlags {
    /** What the cache has codes for. */
    static final List<Integer> BITS = List.of(2, 3, 4, 8, 16);

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    @Option(
            names = "--mode",
            paramLabel = "MODE",
            defaultValue = "tarpon",
            converter = ModeConverter.class,
            description = "tarpon or rotatekv. Default: tarpon.")
    private KvMode mode;

    @Option(
            names = "--k-bits",
            paramLabel = "BITS",
            defaultValue = "2",
            description = "Bits of a key's element: 2, 3, 4, 8 or 16. Default: 2.")
    private int keyBits;

    @Option(
            names = "--v-bits",
            paramLabel = "BITS",
            defaultValue = "2",
            description = "Bits of a value's element. Default: 2.")
    private int valueBits;

    @Option(
            names = "--sinks",
            paramLabel = "N",
            defaultValue = "0",
            description = "First tokens that are kept in 16 bits: 0..256. Default: 0.")
    private int sinks;

    @Option(
            names = "--sink-positions",
            paramLabel = "P",
            split = ",",
            description =
                    "Tokens that are kept in 16 bits instead of the first ones: rising positions,"
                            + " such as 0,17,90; 256 at most.")
    private List<Integer> sinkPositions = List.of();

    @Option(
            names = "--window",
            paramLabel = "N",
            defaultValue = "0",
            description = "Last tokens that are kept in 16 bits: 0..1024. Default: 0.")
    private int window;

    /** The format; what no device has is a usage error. */
    KvFormat format() {
        requireBits("--k-bits", keyBits);
        requireBits("--v-bits", valueBits);
        requireRange("--sinks", sinks, 256);
        requireRange("--window", window, 1024);
        if (!sinkPositions.isEmpty() && sinks > 0) {
            throw new ParameterException(
                    spec.commandLine(),
                    "--sinks %d and --sink-positions: one of them is possible".formatted(sinks));
        }
        requireRange("the number of --sink-positions,", sinkPositions.size(), 256);
        int most = sinkPositions.isEmpty() ? sinks : sinkPositions.size();
        return new KvFormat(mode, keyBits, valueBits, most, window);
    }

    /** Where sinks are; null for the first tokens. */
    int[] sinkPositions() {
        for (int i = 0; i < sinkPositions.size(); i++) {
            int before = i == 0 ? -1 : sinkPositions.get(i - 1);
            if (sinkPositions.get(i) <= before) {
                throw new ParameterException(
                        spec.commandLine(),
                        "--sink-positions: %d behind %d; they rise from 0 on"
                                .formatted(sinkPositions.get(i), before));
            }
        }
        return sinkPositions.isEmpty()
                ? null
                : sinkPositions.stream().mapToInt(Integer::intValue).toArray();
    }

    private void requireBits(String name, int bits) {
        if (!BITS.contains(bits)) {
            throw new ParameterException(
                    spec.commandLine(), "%s %d: 2, 3, 4, 8 or 16".formatted(name, bits));
        }
    }

    private void requireRange(String name, int value, int most) {
        if (value < 0 || value > most) {
            throw new ParameterException(
                    spec.commandLine(), "%s %d: 0 to %d".formatted(name, value, most));
        }
    }

    private static <E extends Enum<E>> E constant(Class<E> type, String value) {
        return Arrays.stream(type.getEnumConstants())
                .filter(one -> one.name().equals(value.toUpperCase(Locale.ROOT)))
                .findFirst()
                .orElseThrow(
                        () ->
                                new TypeConversionException(
                                        "'%s' is not one of %s".formatted(value, names(type))));
    }

    private static String names(Class<? extends Enum<?>> type) {
        return Arrays.stream(type.getEnumConstants())
                .map(one -> one.name().toLowerCase(Locale.ROOT))
                .collect(Collectors.joining(", "));
    }

    /** tarpon or rotatekv. */
    static final class ModeConverter implements ITypeConverter<KvMode> {
        @Override
        public KvMode convert(String value) {
            return constant(KvMode.class, value);
        }
    }

    /** half or interleaved. */
    static final class LayoutConverter implements ITypeConverter<RopeLayout> {
        @Override
        public RopeLayout convert(String value) {
            return constant(RopeLayout.class, value);
        }
    }
}
