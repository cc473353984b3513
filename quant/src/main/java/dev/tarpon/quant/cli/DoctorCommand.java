package dev.tarpon.quant.cli;

import dev.tarpon.DType;
import dev.tarpon.DeviceInfo;
import dev.tarpon.DeviceKind;
import dev.tarpon.LinearOptions;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.Tarpon;
import dev.tarpon.TarponException;
import dev.tarpon.WeightFormat;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;

/** Says what this machine has for building and running Tarpon, and what it lacks. */
@Command(
        name = "doctor",
        mixinStandardHelpOptions = true,
        description = {
            "Say what is found, what is missing, and how to get it.",
            "",
            "Exit code 0 if everything that is needed is there, 1 otherwise. What is optional is"
                    + " marked and does not count."
        })
final class DoctorCommand implements Callable<Integer> {
    private static final int NEEDED_GCC = 12;
    private static final double NEEDED_CMAKE = 3.25;
    private static final int NEEDED_JAVA = 25;

    private enum Verdict {
        FOUND("ok"),
        MISSING("MISSING"),
        OPTIONAL("absent");

        private final String text;

        Verdict(String text) {
            this.text = text;
        }
    }

    private record Finding(String subject, Verdict verdict, String detail) {}

    @Spec private CommandSpec spec;

    private final List<Finding> findings = new ArrayList<>();

    @Option(
            names = "--explain-linear",
            arity = "3",
            paramLabel = "SIZE",
            description =
                    "Instead: say what a GPU would launch for y[M, N] = x[M, K] W in 4 bits, and"
                            + " why, from the cost model; sizes M N K. No GPU is needed.")
    private long[] explained;

    @Option(
            names = "--compute-capability",
            paramLabel = "CC",
            defaultValue = "90",
            description =
                    "With --explain-linear: the GPU's compute capability, such as 80 or 90."
                            + " Default: 90.")
    private int computeCapability;

    @Option(
            names = "--group",
            paramLabel = "SIZE",
            defaultValue = "128",
            description = "With --explain-linear: 32, 64, 128 or -1. Default: 128.")
    private int group;

    @Override
    public Integer call() {
        if (explained != null) {
            return explain();
        }
        checkJava();
        checkTools();
        checkLibrary();
        checkNvidia();
        checkBuilt();
        PrintWriter out = spec.commandLine().getOut();
        var table = new Table();
        for (Finding finding : findings) {
            table.row(finding.verdict().text, finding.subject(), finding.detail());
        }
        table.print(out, "");
        long missing = findings.stream().filter(f -> f.verdict() == Verdict.MISSING).count();
        out.println(
                missing == 0
                        ? "Everything that is needed is here."
                        : "%d of what is needed is missing.".formatted(missing));
        return missing == 0 ? ExitCode.OK : ExitCode.FAILURE;
    }

    private int explain() {
        Groups.require(spec, group);
        String text =
                QuantizedLinear.explain(
                        WeightFormat.marlin(group),
                        explained[0],
                        explained[1],
                        explained[2],
                        new LinearOptions(DType.F16),
                        computeCapability,
                        0);
        spec.commandLine().getOut().print(text);
        return ExitCode.OK;
    }

    private void checkJava() {
        int feature = Runtime.version().feature();
        String detail = "%s, %s".formatted(Runtime.version(), System.getProperty("java.home"));
        if (feature >= NEEDED_JAVA) {
            found("JDK", detail);
        } else {
            missing("JDK", detail + "; JDK 25 is needed: https://adoptium.net");
        }
    }

    private void checkTools() {
        Optional<String> compiler = Tools.firstLine("g++", "-dumpfullversion");
        if (compiler.isPresent() && Tools.version(compiler.get()) >= NEEDED_GCC) {
            found("g++", compiler.get());
        } else {
            missing(
                    "g++",
                    compiler.map(v -> v + " is too old; ").orElse("")
                            + "g++ 12 or newer is needed: apt install g++");
        }
        Optional<String> cmake = Tools.firstLine("cmake", "--version");
        if (cmake.isPresent() && Tools.version(cmake.get()) >= NEEDED_CMAKE) {
            found("CMake", cmake.get());
        } else {
            missing(
                    "CMake",
                    cmake.map(v -> v + " is too old; ").orElse("")
                            + "CMake 3.25 or newer is needed: apt install cmake");
        }
        Path wrapper = Project.root().resolve("mvnw");
        if (Files.isExecutable(wrapper)) {
            found("Maven", wrapper + " (fetches Maven when it is first run)");
        } else {
            missing("Maven", "no ./mvnw in " + Project.root() + "; run from the repository");
        }
        Optional<String> nvcc = Tools.lastLine("nvcc", "--version");
        if (nvcc.isPresent()) {
            found("nvcc", nvcc.get());
        } else {
            optional(
                    "nvcc",
                    "needed only to build for NVIDIA GPUs: CUDA 12.8 or newer,"
                            + " https://developer.nvidia.com/cuda-downloads, with nvcc on PATH");
        }
    }

    private void checkLibrary() {
        Optional<String> reason = Tarpon.unavailableReason();
        if (reason.isPresent()) {
            missing("libtarpon", reason.get() + "; build it: ./mvnw -DskipTests package");
            return;
        }
        found("libtarpon", "%s, %s".formatted(Tarpon.version(), Tarpon.libraryPath()));
        try {
            for (DeviceInfo device : Tarpon.devices()) {
                found(
                        "device " + device.spec(),
                        String.format(
                                Locale.ROOT,
                                "%s, %s, %d %s, %s",
                                device.name(),
                                device.isa(),
                                device.processorCount(),
                                device.kind() == DeviceKind.CPU ? "threads" : "multiprocessors",
                                Units.shortBytes(device.memoryBytes())));
            }
            for (DeviceKind kind : DeviceKind.values()) {
                Tarpon.unavailableReason(kind).ifPresent(why -> optional("device " + kind, why));
            }
        } catch (TarponException e) {
            missing("devices", e.getMessage());
        }
    }

    private void checkNvidia() {
        Optional<String> driver =
                Tools.firstLine(
                        "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader");
        if (driver.isPresent()) {
            found("NVIDIA driver", driver.get());
        } else {
            optional(
                    "NVIDIA driver",
                    "nvidia-smi does not answer; needed only for cuda devices: apt install"
                            + " nvidia-driver");
        }
    }

    private void checkBuilt() {
        Path model = Project.models().resolve(DemoCommand.MODEL_FILE);
        if (Files.exists(model)) {
            found("demo model", model.toString());
        } else {
            missing("demo model", model + " is absent; fetch it: ./mvnw -DskipTests package");
        }
        Path benchmarks = Project.root().resolve(BenchCommand.JAR);
        if (Files.exists(benchmarks)) {
            found("benchmarks", benchmarks.toString());
        } else {
            optional("benchmarks", "not built; build them: ./mvnw -DskipTests package");
        }
    }

    private void found(String subject, String detail) {
        findings.add(new Finding(subject, Verdict.FOUND, detail));
    }

    private void missing(String subject, String detail) {
        findings.add(new Finding(subject, Verdict.MISSING, detail));
    }

    private void optional(String subject, String detail) {
        findings.add(new Finding(subject, Verdict.OPTIONAL, detail));
    }
}
