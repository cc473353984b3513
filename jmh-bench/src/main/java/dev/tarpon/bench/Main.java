package dev.tarpon.bench;

import dev.tarpon.DType;
import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.bench.linear.Implementation;
import dev.tarpon.bench.linear.LinearCase;
import dev.tarpon.bench.optim.AdamWKind;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;

/**
 * Runs Tarpon's benchmarks beside their baselines and writes a report; the option --help explains.
 * Exit code 0 is success, 1 a benchmark that failed, 2 wrong arguments.
 */
@Command(
        name = "benchmarks.jar",
        mixinStandardHelpOptions = true,
        showDefaultValues = true,
        versionProvider = Main.Version.class,
        description = {
            "Times Tarpon and its baselines, and writes NAME.json and NAME.md.",
            "Every case runs once a round in a JVM of its own, so that ratios within a round hold"
                    + " on a machine whose speed drifts. What cannot run here is listed with the"
                    + " reason. The simulator is never timed: it says nothing about speed."
        },
        footer = {
            "",
            "Examples:",
            "  ./tarpon bench",
            "  ./tarpon bench -- --benchmarks linear --rows 1,16,128 --rounds 5",
            "  ./tarpon bench -- --benchmarks linear --full --devices cpu --dtypes BF16 \\",
            "      --implementations tarpon,tarpon-int8"
        })
public final class Main implements Callable<Integer> {
    private static final List<String> OVERHEAD = List.of("javaCall", "downcall", "emptyLinear");

    @Option(
            names = "--benchmarks",
            split = ",",
            paramLabel = "NAME",
            description = "overhead, linear, optimizer")
    private List<String> benchmarks = List.of("overhead", "linear", "optimizer");

    @Option(names = "--devices", split = ",", paramLabel = "DEVICE", description = "cpu, cuda:N")
    private List<String> devices = List.of("cpu", "cuda:0");

    @Option(
            names = "--implementations",
            split = ",",
            paramLabel = "NAME",
            description = {
                "tarpon; tarpon-int8 (8-bit activations), java-fp32, java-w4 (CPU);",
                "jcublas, cublas (CUDA)"
            })
    private List<String> implementations =
            List.of("tarpon", "tarpon-int8", "java-fp32", "java-w4", "jcublas", "cublas");

    @Option(names = "--shapes", split = ",", paramLabel = "INxOUT", description = "weight matrices")
    private List<String> shapes = List.of("384x1536", "4096x4096");

    @Option(
            names = "--parameters",
            split = ",",
            paramLabel = "N",
            description = "of the optimizers: 65536 stay in the caches, 16 Mi do not")
    private List<Integer> parameters = List.of(65536, 16 << 20);

    @Option(
            names = "--tensors",
            split = ",",
            paramLabel = "N",
            description = "how many tensors the optimizers' parameters are in")
    private List<Integer> tensors = List.of(1);

    @Option(names = "--rows", split = ",", paramLabel = "M", description = "rows of x")
    private List<Integer> rows = List.of(1, 16, 128);

    @Option(names = "--dtypes", split = ",", paramLabel = "TYPE", description = "F16, BF16, F32")
    private List<DType> dtypes = List.of(DType.F16);

    @Option(names = "--threads", split = ",", paramLabel = "N", description = "CPU threads, 0: all")
    private List<Integer> threads = List.of(0);

    @Option(
            names = "--cold-mib",
            split = ",",
            paramLabel = "MIB",
            description = "copies of the weights, used in turn, fill this much; 0: one hot copy")
    private List<Long> coldMib = List.of(256L);

    @Option(
            names = "--full",
            description = {
                "the linear's long list: m = 1 to 512, five shapes, cold and hot;",
                "instead of --rows, --shapes and --cold-mib"
            })
    private boolean full;

    @Option(names = "--rounds", paramLabel = "N", description = "interleaved rounds")
    private int rounds = 3;

    @Option(names = "--warmups", paramLabel = "N", description = "warm-up iterations a fork")
    private int warmups = 2;

    @Option(names = "--iterations", paramLabel = "N", description = "measured iterations a fork")
    private int iterations = 5;

    @Option(names = "--time", paramLabel = "MS", description = "milliseconds an iteration")
    private int milliseconds = 300;

    @Option(names = "--out", paramLabel = "DIR", description = "where the report goes")
    private Path out = Path.of("jmh-bench", "results");

    @Option(names = "--name", paramLabel = "NAME", description = "name of the report's files")
    private String name = "report";

    @Option(names = "--commit", paramLabel = "ID", description = "recorded; default: what git says")
    private Optional<String> commit = Optional.empty();

    @Option(names = "--command", paramLabel = "TEXT", description = "recorded as the command")
    private Optional<String> command = Optional.empty();

    private String[] arguments = {};

    static final class Version implements CommandLine.IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"Tarpon " + Tarpon.version()};
        }
    }

    public static void main(String[] arguments) {
        System.exit(execute(arguments));
    }

    /** {@link #main} without the exit. */
    static int execute(String... arguments) {
        Main main = new Main();
        main.arguments = arguments;
        return new CommandLine(main)
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setExecutionExceptionHandler(
                        (failure, line, result) -> {
                            if (failure instanceof IllegalArgumentException) {
                                line.getErr().println(failure.getMessage());
                                return CommandLine.ExitCode.USAGE;
                            }
                            throw failure;
                        })
                .execute(arguments);
    }

    @Override
    public Integer call() throws IOException {
        if (Math.min(Math.min(rounds, iterations), milliseconds) < 1 || warmups < 0) {
            throw new IllegalArgumentException(
                    "--rounds, --iterations and --time must be at least 1, --warmups at least 0");
        }
        List<BenchmarkCase> cases = new ArrayList<>();
        List<Skipped> skipped = new ArrayList<>();
        for (String benchmark : benchmarks) {
            switch (benchmark) {
                case "overhead" -> OVERHEAD.forEach(m -> cases.add(BenchmarkCase.overhead(m)));
                case "linear" -> planLinear(cases, skipped);
                case "optimizer" -> planOptimizer(cases, skipped);
                default ->
                        throw new IllegalArgumentException(
                                "unknown benchmark \""
                                        + benchmark
                                        + "\": overhead, linear or optimizer");
            }
        }
        if (cases.stream().anyMatch(BenchmarkCase::isLinearOnCpu)) {
            cases.addAll(0, List.of(BenchmarkCase.readRoof(), BenchmarkCase.multiplyAddRoof()));
        }
        var settings = new InterleavedRunner.Settings(rounds, warmups, iterations, milliseconds);
        System.out.printf(
                "%d cases, %d rounds, about %s%n",
                cases.size(), rounds, estimate(cases.size(), settings));
        InterleavedRunner.Outcome outcome = new InterleavedRunner(settings, System.out).run(cases);
        Report report =
                new Report(
                        Environment.read(command.orElseGet(this::ownCommand), commit),
                        settings,
                        outcome.measurements(),
                        skipped,
                        outcome.failures());
        report.write(out, name);
        System.out.println();
        System.out.print(report.toMarkdown());
        System.out.println("\nWritten: " + out.resolve(name) + ".json and .md");
        return outcome.failures().isEmpty()
                ? CommandLine.ExitCode.OK
                : CommandLine.ExitCode.SOFTWARE;
    }

    private void planOptimizer(List<BenchmarkCase> cases, List<Skipped> skipped) {
        for (int threadCount : threads) {
            if (threadCount < 0) {
                throw new IllegalArgumentException(
                        "--threads is %d; it must be at least 0".formatted(threadCount));
            }
        }
        for (int count : parameters) {
            if (count < 1) {
                throw new IllegalArgumentException(
                        "--parameters is %d; it must be at least 1".formatted(count));
            }
        }
        for (int count : tensors) {
            if (count < 1) {
                throw new IllegalArgumentException(
                        "--tensors is %d; it must be at least 1".formatted(count));
            }
        }
        for (String name : devices) {
            TimedDevice device = new TimedDevice(name);
            Optional<String> reason = device.unavailableReason();
            if (reason.isPresent()) {
                skipped.add(new Skipped("optimizer on " + name, reason.get()));
                continue;
            }
            // A GPU has no threads to choose.
            List<Integer> choices = device.kind() == DeviceKind.CPU ? threads : List.of(0);
            for (int count : parameters) {
                for (int tensorCount : tensors) {
                    for (int threadCount : choices) {
                        planOptimizer(cases, device, count, tensorCount, threadCount);
                    }
                }
            }
        }
    }

    private static void planOptimizer(
            List<BenchmarkCase> cases, TimedDevice device, int count, int tensors, int threads) {
        for (AdamWKind kind : AdamWKind.values()) {
            if (kind.appliesTo(device.kind())) {
                cases.add(BenchmarkCase.optimizer(kind, device, count, tensors, threads));
            }
        }
        if (device.kind() == DeviceKind.CPU && count >= MemoryBenchmark.LEAST_ELEMENTS) {
            cases.add(BenchmarkCase.roof(device, count, tensors, threads));
        }
    }

    private void planLinear(List<BenchmarkCase> cases, List<Skipped> skipped) {
        if (full) {
            rows = List.of(1, 2, 4, 8, 16, 32, 64, 128, 512);
            shapes = List.of("4096x4096", "11008x4096", "4096x11008", "4096x14336", "1536x384");
            coldMib = List.of(256L, 0L);
        }
        for (String device : devices) {
            for (String shape : shapes) {
                for (int m : rows) {
                    for (DType dtype : dtypes) {
                        for (long mib : coldMib) {
                            planLinear(device, shape, m, dtype, mib, cases, skipped);
                        }
                    }
                }
            }
        }
    }

    private void planLinear(
            String device,
            String shape,
            int m,
            DType dtype,
            long mib,
            List<BenchmarkCase> cases,
            List<Skipped> skipped) {
        long[] sizes = LinearCase.parseShape(shape);
        for (int threadCount : threads) {
            LinearCase layer =
                    new LinearCase(
                            new TimedDevice(device),
                            sizes[0],
                            sizes[1],
                            m,
                            dtype,
                            threadCount,
                            mib << 20);
            for (String label : implementations) {
                Implementation implementation = Implementation.of(label);
                if (!implementation.appliesTo(layer.device().kind())) {
                    continue;
                }
                Optional<String> reason = implementation.unavailableReason(layer);
                if (reason.isEmpty()) {
                    cases.add(BenchmarkCase.linear(implementation, layer));
                } else {
                    Skipped entry =
                            new Skipped(
                                    "linear, " + label + " on " + device + ", " + dtype,
                                    reason.get());
                    if (!skipped.contains(entry)) {
                        skipped.add(entry);
                    }
                }
            }
        }
    }

    /** Forks start in about a second; the set-up of large shapes comes on top. */
    private static String estimate(int cases, InterleavedRunner.Settings settings) {
        int iterations = settings.warmupIterations() + settings.iterations();
        double perFork = 1 + iterations * settings.milliseconds() / 1e3;
        return String.format(
                Locale.ROOT, "%.0f min", Math.ceil(cases * settings.rounds() * perFork / 60));
    }

    private String ownCommand() {
        return arguments.length == 0
                ? "./tarpon bench"
                : "./tarpon bench -- " + String.join(" ", arguments);
    }
}
