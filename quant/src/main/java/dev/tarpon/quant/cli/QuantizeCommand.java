package dev.tarpon.quant.cli;

import dev.tarpon.format.FormatException;
import dev.tarpon.quant.convert.ModelQuantizer;
import dev.tarpon.quant.convert.ModelSource;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/** Converts a model file to 4-bit linear layers. */
@Command(
        name = "quantize",
        mixinStandardHelpOptions = true,
        description = {
            "Quantise the linear layers of a model to 4 bits, round to nearest, in MARLIN order.",
            "",
            "IN is a .safetensors, .onnx or .gguf file, or the folder of a GPTQ or AWQ checkpoint."
                + " In ONNX, the matrices that a MatMul or Gemm multiplies by are quantised;"
                + " anonymous ones take the name of their layer. In safetensors and GGUF, which"
                + " have no graph, the F32, F16 and BF16 matrices whose name ends in \"weight\""
                + " are, read as [out, in] the way torch.nn.Linear keeps them, except embeddings,"
                + " norms and output heads; see --include and --exclude.",
            "",
            "Layers that are quantised already (GPTQ, AWQ; GGUF's Q4_0, Q4_1, Q8_0, Q4_K) keep"
                + " their codes and scales bit for bit, and --group is not theirs. Tensors of other"
                + " GGUF blocks are copied as bytes, U8, with their type as metadata NAME.gguf.",
            "",
            "OUT holds LAYER.qweight (I32 [Kp/16, 2*Np]) and LAYER.scales (F16 [groups, Np]) for"
                + " each layer, where K and N are padded to multiples of 16 and 64; the true [N, K]"
                + " is in the metadata as LAYER.shape. Layers that MARLIN order cannot hold (zero"
                + " points, minimums, 8 bits, act-order) are there in plain order: LAYER.codes (U8"
                + " [K, N], a byte each), LAYER.scales, LAYER.zeros, LAYER.g_idx; LAYER.format says"
                + " what they are. All other tensors are copied. OUT appears only when it is"
                + " complete."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon quantize model.safetensors -o model-w4.safetensors",
            "  ./tarpon quantize model.onnx -o model-w4.safetensors --group -1",
            "  ./tarpon quantize model.Q4_0.gguf -o model-w4.safetensors",
            "  ./tarpon quantize m.safetensors -o o.safetensors --exclude '.*(embed|head).*'"
        })
final class QuantizeCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;

    @Parameters(paramLabel = "IN", description = "The model: a file or a folder.")
    private Path in;

    @Option(
            names = {"-o", "--out"},
            paramLabel = "OUT",
            required = true,
            description = "The file to write, in safetensors format.")
    private Path out;

    @Option(
            names = "--group",
            paramLabel = "SIZE",
            defaultValue = "128",
            description =
                    "Input features that share a scale: 32, 64, 128, or -1 for all. Default: 128.")
    private int group;

    @Option(
            names = "--include",
            paramLabel = "REGEX",
            description = "Quantise only tensors whose whole name matches.")
    private String include;

    @Option(
            names = "--exclude",
            paramLabel = "REGEX",
            defaultValue = ModelSource.DEFAULT_EXCLUDE,
            description =
                    "Do not quantise tensors whose whole name matches. Default: ${DEFAULT-VALUE}")
    private String exclude;

    @Override
    public Integer call() throws IOException {
        Groups.require(spec, group);
        Optional<Pattern> included = Optional.ofNullable(include).map(this::pattern);
        try (ModelSource source = ModelSource.open(in, included, pattern(exclude))) {
            PrintWriter output = spec.commandLine().getOut();
            if (source.linears().isEmpty() && source.quantized().isEmpty()) {
                throw new FormatException(
                        in.toString(), "no tensor is to be quantised; see --include and --exclude");
            }
            var job = new ModelQuantizer(source, group);
            try (Progress progress = Progress.start("Quantising", job.tensorCount())) {
                job.write(
                        in.toString(),
                        out,
                        name -> {
                            progress.describe(name);
                            progress.step();
                        });
            }
            summarise(output, source, job);
        }
        return ExitCode.OK;
    }

    private void summarise(PrintWriter output, ModelSource source, ModelQuantizer job) {
        int kept = source.quantized().size();
        String layers =
                kept == 0
                        ? "%d linear layers in 4 bits".formatted(source.linears().size())
                        : "%d linear layers as they were quantised, %d rounded to 4 bits"
                                .formatted(kept, source.linears().size());
        String foreign =
                source.foreignTensors() == 0
                        ? ""
                        : " (%d of them blocks, as bytes)".formatted(source.foreignTensors());
        output.printf(
                Locale.ROOT,
                "%s: %s, %s instead of %s (%.2fx smaller); %d other tensors copied%s%n",
                out,
                layers,
                Units.shortBytes(job.bytesAfter()),
                Units.shortBytes(job.bytesBefore()),
                (double) job.bytesBefore() / job.bytesAfter(),
                source.others().size(),
                foreign);
    }

    private Pattern pattern(String regex) {
        try {
            return Pattern.compile(regex);
        } catch (PatternSyntaxException e) {
            throw new ParameterException(
                    spec.commandLine(),
                    "'%s' is not a regular expression: %s".formatted(regex, e.getDescription()));
        }
    }
}
