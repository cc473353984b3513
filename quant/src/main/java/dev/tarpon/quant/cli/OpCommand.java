package dev.tarpon.quant.cli;

import dev.tarpon.Device;
import dev.tarpon.LinearMode;
import dev.tarpon.Sparsity;
import dev.tarpon.quant.op.FormatOptions;
import dev.tarpon.quant.op.LinearOps;
import dev.tarpon.quant.op.LinearRunOptions;
import dev.tarpon.quant.op.WeightForm;
import dev.tarpon.quant.op.WeightOptions;

import picocli.CommandLine.Command;
import picocli.CommandLine.HelpCommand;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.Callable;

/** Single operations from file to file, for comparison with other software. */
@Command(
        name = "op",
        mixinStandardHelpOptions = true,
        synopsisSubcommandLabel = "NAME",
        description = {
            "Run one operation on tensors from a safetensors file and write its results to"
                    + " another.",
            "",
            "For linear layers: M rows, K input features, N output features; G = ceil(K / group)"
                + " scales a column, 1 for group -1. MARLIN order pads K to Kp, a multiple of 16,"
                + " and N to Np, a multiple of 64; results carry n, k, group and bits as metadata,"
                + " and inputs that carry them need no flags."
        },
        subcommands = {
            OpCommand.LinearPack.class,
            OpCommand.LinearUnpack.class,
            OpCommand.Linear.class,
            OpHadamardCommand.class,
            OpBlockwiseCommands.Quantize.class,
            OpBlockwiseCommands.Dequantize.class,
            OpOptimStepCommand.class,
            OpKvCommands.RoundTrip.class,
            OpKvCommands.Attend.class,
            HelpCommand.class
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon op linear-pack --in w.safetensors --out packed.safetensors --group 128",
            "  ./tarpon op linear --device cpu --in xw.safetensors --out y.safetensors",
            "  ./tarpon op help linear"
        })
final class OpCommand implements Runnable {
    @Spec private CommandSpec spec;

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "the name of an operation is missing");
    }

    /** The files of any operation. */
    static final class Files {
        @Option(
                names = "--in",
                paramLabel = "IN",
                required = true,
                description = "The safetensors file to read.")
        private Path in;

        @Option(
                names = "--out",
                paramLabel = "OUT",
                required = true,
                description = "The safetensors file to write; it appears when it is complete.")
        private Path out;

        Path in() {
            return in;
        }

        Path out() {
            return out;
        }
    }

    /** The device, for operations that run on it. */
    static final class RunDevice {
        @Spec(Spec.Target.MIXEE)
        private CommandSpec spec;

        @Option(
                names = "--device",
                paramLabel = "DEVICE",
                defaultValue = "cpu",
                description = "cpu, sim, cuda or cuda:N. Default: cpu.")
        private String device;

        Device open() {
            return Devices.open(spec, device);
        }
    }

    /** What is said about the weight. */
    static final class Weight {
        @Spec(Spec.Target.MIXEE)
        private CommandSpec spec;

        @Option(
                names = "--bits",
                paramLabel = "BITS",
                defaultValue = "4",
                description = "Bits per weight: 4; 8 too with --format gptq and gptq_v2.")
        private int bits;

        @Option(
                names = "--group",
                paramLabel = "SIZE",
                description =
                        "Input features that share a scale: 32, 64, 128, or -1 for all (scales [1,"
                                + " N]). Default: the input's metadata, or else 128.")
        private Integer group;

        @Option(
                names = "--n",
                paramLabel = "N",
                description =
                        "Output features. Default: the input's metadata, or else the tensor's"
                                + " size.")
        private Long n;

        @Option(
                names = "--k",
                paramLabel = "K",
                description =
                        "Input features. Default: the input's metadata, or else the tensor's size.")
        private Long k;

        @Option(
                names = "--form",
                paramLabel = "FORM",
                converter = FormConverter.class,
                description =
                        "Which weight to take if the input holds several: weight, codes or"
                                + " qweight.")
        private WeightForm form;

        @Option(
                names = "--prune",
                description =
                        "Prune the tensor weight to 2:4 before it is quantised: of every four"
                                + " inputs the two largest stay.")
        private boolean prune;

        @Mixin private OpFormat format;

        FormatOptions format() {
            return format.options();
        }

        WeightOptions options() {
            boolean eight = bits == 8 && format.isGptq();
            if (bits != 4 && !eight) {
                throw new ParameterException(
                        spec.commandLine(),
                        "--bits %d: only 4 is supported; 8 too with --format gptq".formatted(bits));
            }
            if (group != null) {
                Groups.require(spec, group);
            }
            return new WeightOptions(bits, group, n, k, form, prune);
        }
    }

    /** The device, for operations that any device gives the same result for. */
    static final class HostDevice {
        @Option(
                names = "--device",
                paramLabel = "DEVICE",
                defaultValue = "cpu",
                description =
                        "Accepted for uniformity: this operation runs on the host, and its result"
                                + " does not depend on the device.")
        private String device;
    }

    @Command(
            name = "linear-pack",
            mixinStandardHelpOptions = true,
            description = {
                "Quantise and pack a weight to MARLIN order.",
                "",
                "Reads weight [N, K] in F16, BF16 or F32 as torch keeps it (quantised round to"
                        + " nearest); or codes U8 [K, N], each 0..15, with scales F16 [G, N]; or,"
                        + " with --format, a checkpoint's tensors, if their weight is symmetric in"
                        + " 4 bits with F16 scales and without act-order.",
                "Writes qweight I32 [Kp/16, 2*Np] and scales_packed F16 [G, Np], which are MARLIN's"
                        + " B and s, and codes and scales in plain order."
            })
    static final class LinearPack implements Callable<Integer> {
        @Mixin private HostDevice device;
        @Mixin private Files files;
        @Mixin private Weight weight;

        @Override
        public Integer call() throws IOException {
            LinearOps.pack(files.in, files.out, weight.options(), weight.format());
            return ExitCode.OK;
        }
    }

    @Command(
            name = "linear-unpack",
            mixinStandardHelpOptions = true,
            description = {
                "Unpack a weight to plain order.",
                "",
                "Reads qweight I32 [Kp/16, 2*Np] and scales_packed F16 [G, Np] in MARLIN order; or,"
                        + " with --format, a checkpoint's tensors.",
                "Writes codes U8 [K, N] and scales [G, N]; zeros [G, N] and g_idx [K] where there"
                        + " are any; with --format also dequantized F32 [K, N]."
            })
    static final class LinearUnpack implements Callable<Integer> {
        @Mixin private HostDevice device;
        @Mixin private Files files;
        @Mixin private Weight weight;

        @Override
        public Integer call() throws IOException {
            LinearOps.unpack(files.in, files.out, weight.options(), weight.format());
            return ExitCode.OK;
        }
    }

    @Command(
            name = "linear",
            mixinStandardHelpOptions = true,
            description = {
                "Multiply: y = x W + bias + residual with quantised W.",
                "",
                "Reads x [M, K] in F16, BF16 or (on the cpu) F32; the weight as weight; as codes"
                        + " and scales; as qweight and scales_packed; or in the --format of a"
                        + " checkpoint; and, where they are there, bias [N] and residual [M, N] in"
                        + " the type of x.",
                "Writes y [M, N] in the type of x."
            })
    static final class Linear implements Callable<Integer> {
        @Mixin private RunDevice device;

        @Option(
                names = "--variant",
                paramLabel = "NAME",
                description = "The kernel to use. Default: the library chooses.")
        private String variant;

        @Option(
                names = "--mode",
                paramLabel = "MODE",
                defaultValue = "fast",
                description =
                        "fast; or deterministic: a row of y does not depend on the other rows."
                                + " Default: fast.")
        private LinearMode mode;

        @Option(
                names = "--sparsity",
                paramLabel = "PATTERN",
                defaultValue = "none",
                converter = OpFormat.SparsityConverter.class,
                description =
                        "none; or 2:4, for a kernel that relies on it: the weight must have the"
                                + " pattern (--prune makes it). Default: none.")
        private Sparsity sparsity;

        @Mixin private Files files;
        @Mixin private Weight weight;

        @Override
        public Integer call() throws IOException {
            WeightOptions options = weight.options();
            var run = new LinearRunOptions(variant, mode, sparsity);
            try (Device opened = device.open()) {
                LinearOps.linear(opened, files.in, files.out, options, weight.format(), run);
            }
            return ExitCode.OK;
        }
    }

    /** weight, codes or qweight. */
    static final class FormConverter implements ITypeConverter<WeightForm> {
        @Override
        public WeightForm convert(String value) {
            return Arrays.stream(WeightForm.values())
                    .filter(form -> form.toString().equals(value.toLowerCase(Locale.ROOT)))
                    .findFirst()
                    .orElseThrow(
                            () ->
                                    new TypeConversionException(
                                            "'%s' is not one of weight, codes, qweight"
                                                    .formatted(value)));
        }
    }
}
