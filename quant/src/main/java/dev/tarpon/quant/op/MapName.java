package dev.tarpon.quant.op;

import dev.tarpon.CodeMap;

import java.util.Arrays;
import java.util.Optional;
import java.util.stream.Collectors;

/** The names of code maps on the command line and in metadata, and the block sizes. */
public final class MapName {
    private MapName() {}

    /** Such as "signed". */
    public static String of(CodeMap map) {
        return switch (map) {
            case DYNAMIC_SIGNED -> "signed";
            case DYNAMIC_UNSIGNED -> "unsigned";
            case LINEAR_INT8 -> "int8";
            case FP8_E4M3 -> "e4m3";
            case DYNAMIC4 -> "dynamic4";
            case NF4 -> "nf4";
        };
    }

    /** The map with this name. */
    public static Optional<CodeMap> find(String name) {
        return Arrays.stream(CodeMap.values()).filter(map -> of(map).equals(name)).findFirst();
    }

    /** All names, for messages. */
    public static String all() {
        return Arrays.stream(CodeMap.values()).map(MapName::of).collect(Collectors.joining(", "));
    }

    /** Whether there are blocks of this size. */
    public static boolean isBlock(long size) {
        return size >= 64 && size <= 4096 && Long.bitCount(size) == 1;
    }
}
