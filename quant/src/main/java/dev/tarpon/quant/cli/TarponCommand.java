package dev.tarpon.quant.cli;

import dev.tarpon.Tarpon;

import picocli.CommandLine.Command;
import picocli.CommandLine.HelpCommand;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/** The command without a subcommand: says what there is. */
@Command(
        name = "tarpon",
        description = "Quantised kernels for CPUs and NVIDIA GPUs: try, convert, compare.",
        synopsisSubcommandLabel = "COMMAND",
        subcommands = {
            DemoCommand.class,
            QuantizeCommand.class,
            InspectCommand.class,
            DoctorCommand.class,
            TrainCommand.class,
            CalibrateKvCommand.class,
            GenerateCommand.class,
            KvReportCommand.class,
            BenchCommand.class,
            OpCommand.class,
            HelpCommand.class
        },
        versionProvider = TarponCommand.Version.class,
        mixinStandardHelpOptions = true,
        footerHeading = "%nFirst steps:%n",
        footer = {
            "  ./tarpon doctor                      what this machine has, and what it lacks",
            "  ./tarpon demo                        4-bit weights on a real model, with a report",
            "  ./tarpon quantize in.safetensors -o out.safetensors",
            "  ./tarpon train                       a small language model, 8-bit optimizer states",
            "  ./tarpon generate MODEL              text from it, 4-bit layers and a 2-bit cache",
            "  ./tarpon help COMMAND                the details of a command",
        },
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {
            "0:success",
            "1:something failed; the message says what",
            "2:the command line is not understood",
            "3:the device, or Tarpon's native library, is not available here",
            "4:an input file is missing, malformed, or holds the wrong tensors",
            "5:the demo's embeddings agree less than they must"
        })
final class TarponCommand implements Runnable {
    @Spec private CommandSpec spec;

    @Option(
            names = "--verbose",
            description = "Show stack traces with errors.",
            scope = ScopeType.INHERIT)
    private boolean verbose;

    boolean isVerbose() {
        return verbose;
    }

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "a command is missing");
    }

    /** The version of the native library, or why there is none. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {
                Tarpon.unavailableReason()
                        .map(reason -> "tarpon, without its native library: " + reason)
                        .orElseGet(() -> "tarpon " + Tarpon.version())
            };
        }
    }
}
