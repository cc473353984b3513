package dev.tarpon.quant.cli;

import dev.tarpon.CodeMap;
import dev.tarpon.Device;
import dev.tarpon.format.ElementType;
import dev.tarpon.quant.op.BlockwiseOps;
import dev.tarpon.quant.op.BlockwiseOptions;
import dev.tarpon.quant.op.MapName;

import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.io.IOException;
import java.util.Locale;
import java.util.concurrent.Callable;

/** {@code op blockwise-quantize} and {@code op blockwise-dequantize}. */
final class OpBlockwiseCommands {
    private OpBlockwiseCommands() {}

    /** What both are told. */
    static final class Blocks {
        @Spec(Spec.Target.MIXEE)
        private CommandSpec spec;

        @Option(
                names = "--map",
                paramLabel = "MAP",
                converter = MapConverter.class,
                description =
                        "signed or unsigned (dynamic maps of 256 values), int8, e4m3, dynamic4 or"
                                + " nf4. Default: the input's metadata, or else signed.")
        private CodeMap map;

        @Option(
                names = "--block",
                paramLabel = "SIZE",
                description =
                        "Values that share an absmax: 64, 128, ..., 4096. Default: the input's"
                                + " metadata, or else 256.")
        private Integer block;

        BlockwiseOptions options(Long n, ElementType type) {
            if (block != null && !MapName.isBlock(block)) {
                throw new ParameterException(
                        spec.commandLine(),
                        "--block %d: it must be 64, 128, 256, 512, 1024, 2048 or 4096"
                                .formatted(block));
            }
            return new BlockwiseOptions(map, block, n, type);
        }
    }

    @Command(
            name = "blockwise-quantize",
            mixinStandardHelpOptions = true,
            description = {
                "Quantise a tensor block by block, each with its absmax.",
                "",
                "Reads x in F32, F16 or BF16, in any shape; n is its number of elements.",
                "Writes codes U8 in the shape of x (4-bit maps: [ceil(n/2)], two a byte, the first"
                        + " in the high half), absmax F32 [ceil(n/block)] and map F32 [256] (4-bit:"
                        + " [16]); value = map[code] * absmax."
            })
    static final class Quantize implements Callable<Integer> {
        @Mixin private OpCommand.RunDevice device;
        @Mixin private OpCommand.Files files;
        @Mixin private Blocks blocks;

        @Override
        public Integer call() throws IOException {
            BlockwiseOptions options = blocks.options(null, null);
            try (Device opened = device.open()) {
                BlockwiseOps.quantize(opened, files.in(), files.out(), options);
            }
            return ExitCode.OK;
        }
    }

    @Command(
            name = "blockwise-dequantize",
            mixinStandardHelpOptions = true,
            description = {
                "Dequantise what blockwise-quantize wrote.",
                "",
                "Reads codes U8, absmax F32 [ceil(n/block)] and, if it is there, map F32, which has"
                        + " to be that of --map.",
                "Writes y in the shape of the codes (4-bit maps: [n])."
            })
    static final class Dequantize implements Callable<Integer> {
        @Option(
                names = "--n",
                paramLabel = "N",
                description =
                        "Values. Default: the input's metadata, or else as many as the codes hold.")
        private Long n;

        @Option(
                names = "--dtype",
                paramLabel = "TYPE",
                converter = TypeConverter.class,
                description =
                        "The type of y: f32, f16 or bf16. Default: the input's metadata, or else"
                                + " f32.")
        private ElementType type;

        @Mixin private OpCommand.RunDevice device;
        @Mixin private OpCommand.Files files;
        @Mixin private Blocks blocks;

        @Override
        public Integer call() throws IOException {
            BlockwiseOptions options = blocks.options(n, type);
            try (Device opened = device.open()) {
                BlockwiseOps.dequantize(opened, files.in(), files.out(), options);
            }
            return ExitCode.OK;
        }
    }

    /** The name of a map. */
    static final class MapConverter implements ITypeConverter<CodeMap> {
        @Override
        public CodeMap convert(String value) {
            return MapName.find(value.toLowerCase(Locale.ROOT))
                    .orElseThrow(
                            () ->
                                    new TypeConversionException(
                                            "'%s' is not one of %s"
                                                    .formatted(value, MapName.all())));
        }
    }

    /** f32, f16 or bf16. */
    static final class TypeConverter implements ITypeConverter<ElementType> {
        @Override
        public ElementType convert(String value) {
            return ElementType.ofName(value.toUpperCase(Locale.ROOT))
                    .filter(ElementType::isFloat)
                    .orElseThrow(
                            () ->
                                    new TypeConversionException(
                                            "'%s' is not one of f32, f16, bf16".formatted(value)));
        }
    }
}
