package dev.tarpon.quant.cli;

import dev.tarpon.GgufType;
import dev.tarpon.Sparsity;
import dev.tarpon.WeightType;
import dev.tarpon.quant.op.CheckpointFormat;
import dev.tarpon.quant.op.FormatOptions;

import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.nio.file.Path;

/** What is said about the weight's format in a checkpoint, and where it is. */
final class OpFormat {
    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    @Option(
            names = "--format",
            paramLabel = "FORMAT",
            description = {
                "The weight's tensors are named and laid out as in checkpoints:",
                "marlin   B I32 [Kp/16, 2*Np], s F16 [G, Np]",
                "gptq     qweight I32 [K*bits/32, N], qzeros I32 [G, N*bits/32] (less one), scales"
                        + " [G, N], g_idx I32 [K]; qzeros and g_idx may be missing",
                "gptq_v2  the same with qzeros as they are",
                "awq      qweight I32 [K, N/8], qzeros I32 [G, N/8], scales [G, N]",
                "gguf     blocks U8 [N, bytes of a row], with --gguf-type; or a .gguf file",
                "plain    codes U8 [K, N], scales [G, N], zeros [G, N] (U8 zero points, or minimums"
                        + " of the scales' type), g_idx I32 [K]; zeros and g_idx may be missing"
            })
    private CheckpointFormat format;

    @Option(
            names = "--gguf-type",
            paramLabel = "TYPE",
            description = "What blocks are: q4_0, q4_1, q8_0 or q4_k.")
    private GgufType ggufType;

    @Option(
            names = "--weight-type",
            paramLabel = "TYPE",
            converter = WeightTypeConverter.class,
            description =
                    "What plain codes are: int4, int8 or fp8. Default: the metadata, or F8_E4M3 of"
                            + " the tensor, or else int4.")
    private WeightType weightType;

    @Option(
            names = "--weights",
            paramLabel = "FILE",
            description =
                    "The safetensors or .gguf file that has the weight, if it is not in the input.")
    private Path weights;

    @Option(
            names = "--tensor",
            paramLabel = "NAME",
            description = "The matrix to take of a .gguf file with several.")
    private String tensor;

    boolean isGptq() {
        return format == CheckpointFormat.GPTQ || format == CheckpointFormat.GPTQ_V2;
    }

    FormatOptions options() {
        if (ggufType != null && format != CheckpointFormat.GGUF) {
            throw new ParameterException(
                    spec.commandLine(), "--gguf-type is for --format gguf only");
        }
        if (weightType != null && format != CheckpointFormat.PLAIN) {
            throw new ParameterException(
                    spec.commandLine(), "--weight-type is for --format plain only");
        }
        return new FormatOptions(format, weightType, ggufType, weights, tensor);
    }

    /** none or 2:4. */
    static final class SparsityConverter implements ITypeConverter<Sparsity> {
        @Override
        public Sparsity convert(String value) {
            return switch (value) {
                case "none" -> Sparsity.NONE;
                case "2:4" -> Sparsity.TWO_OF_FOUR;
                default ->
                        throw new TypeConversionException(
                                "'%s' is not one of none, 2:4".formatted(value));
            };
        }
    }

    /** int4, int8 or fp8. */
    static final class WeightTypeConverter implements ITypeConverter<WeightType> {
        @Override
        public WeightType convert(String value) {
            return switch (value) {
                case "int4" -> WeightType.INT4;
                case "int8" -> WeightType.INT8;
                case "fp8" -> WeightType.FP8_E4M3;
                default ->
                        throw new TypeConversionException(
                                "'%s' is not one of int4, int8, fp8".formatted(value));
            };
        }
    }
}
