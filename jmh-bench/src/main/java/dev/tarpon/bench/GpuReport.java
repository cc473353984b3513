package dev.tarpon.bench;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Stream;

/**
 * The last step of gpu-check: gathers tests and benchmarks in one JSON file and one Markdown page.
 */
@Command(name = "gpu-report", mixinStandardHelpOptions = true)
public final class GpuReport implements Callable<Integer> {
    private static final Gson GSON =
            new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create();

    @Option(names = "--out", required = true, description = "where gpu-check.json and .md go")
    private Path out;

    @Option(names = "--ctest", required = true, description = "ctest's JUnit XML file")
    private Path ctest;

    @Option(names = "--junit", required = true, description = "directory of TEST-*.xml files")
    private Path junit;

    @Option(names = "--benchmarks", description = "JSON report of the benchmarks")
    private Optional<Path> benchmarks = Optional.empty();

    @Option(names = "--gemm", description = "figures of w4_gemm_bench, a line of JSON each")
    private Optional<Path> gemm = Optional.empty();

    @Option(names = "--log", paramLabel = "TITLE=FILE", description = "output that is shown as is")
    private Map<String, Path> logs = new LinkedHashMap<>();

    @Option(names = "--commit", required = true)
    private String commit;

    @Option(names = "--command", required = true)
    private String command;

    public static void main(String[] arguments) {
        System.exit(execute(arguments));
    }

    /** {@link #main} without the exit. */
    static int execute(String... arguments) {
        return new CommandLine(new GpuReport()).execute(arguments);
    }

    @Override
    public Integer call() throws IOException {
        TestSummary tests = new TestSummary();
        tests.add(ctest);
        tests.add(junit);
        Optional<String> noGpu = Tarpon.unavailableReason(DeviceKind.CUDA);
        noGpu.ifPresent(
                reason -> tests.failed().add(new TestSummary.Event("gpu-check", "cuda", reason)));
        expect(tests, benchmarks.stream());
        expect(tests, gemm.stream());
        expect(tests, logs.values().stream());
        Environment environment = Environment.read(command, Optional.of(commit));
        Files.createDirectories(out);
        Files.writeString(out.resolve("gpu-check.json"), toJson(environment, tests));
        String page = toMarkdown(environment, tests);
        Files.writeString(out.resolve("gpu-check.md"), page);
        System.out.print(page);
        return tests.failed().isEmpty() && tests.passed() > 0 ? 0 : 1;
    }

    /** What is missing counts as a failure; the report is made of the rest. */
    private static void expect(TestSummary tests, Stream<Path> files) {
        files.filter(Files::notExists)
                .forEach(
                        file ->
                                tests.failed()
                                        .add(
                                                new TestSummary.Event(
                                                        "gpu-check",
                                                        file.getFileName().toString(),
                                                        "is not there")));
    }

    private String toJson(Environment environment, TestSummary tests) throws IOException {
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("environment", environment);
        document.put(
                "tests",
                Map.of(
                        "passed", tests.passed(),
                        "failed", tests.failed(),
                        "skipped", tests.skipped()));
        if (isThere(benchmarks)) {
            JsonElement report = JsonParser.parseString(Files.readString(benchmarks.get()));
            document.put("benchmarks", report);
        }
        if (isThere(gemm)) {
            document.put("gemm", GemmTable.read(gemm.get()).rows());
        }
        Map<String, List<String>> texts = new LinkedHashMap<>();
        for (Map.Entry<String, Path> log : logs.entrySet()) {
            if (Files.exists(log.getValue())) {
                texts.put(log.getKey(), Files.readAllLines(log.getValue()));
            }
        }
        document.put("logs", texts);
        return GSON.toJson(document) + "\n";
    }

    private String toMarkdown(Environment environment, TestSummary tests) throws IOException {
        StringBuilder page = new StringBuilder("# Tarpon on a GPU\n\n");
        page.append("| | |\n|---|---|\n");
        environment.devices().stream()
                .filter(device -> device.kind() == DeviceKind.CUDA)
                .forEach(d -> row(page, "cuda:" + d.ordinal(), d.name() + ", " + d.isa()));
        row(page, "driver", environment.nvidiaDriver());
        row(page, "commit", environment.commit());
        row(page, "date", environment.date());
        row(page, "command", "`" + command + "`");
        row(page, "tests", tests.line());
        list(page, "Failed", tests.failed());
        list(page, "Skipped", tests.skipped());
        if (isThere(gemm)) {
            page.append("\n## W4 GEMM, group 128, fp16\n");
            page.append(GemmTable.read(gemm.get()).toMarkdown());
        }
        if (isThere(benchmarks)) {
            Path table = Path.of(benchmarks.get().toString().replaceFirst("\\.json$", ".md"));
            page.append("\n## From Java\n\n").append(Files.readString(table));
        }
        for (Map.Entry<String, Path> log : logs.entrySet()) {
            if (Files.exists(log.getValue())) {
                page.append("\n## %s\n\n```\n".formatted(log.getKey()));
                page.append(Files.readString(log.getValue())).append("```\n");
            }
        }
        return page.toString();
    }

    private static boolean isThere(Optional<Path> file) {
        return file.isPresent() && Files.exists(file.get());
    }

    private static void row(StringBuilder page, String name, String value) {
        page.append("| %s | %s |\n".formatted(name, value));
    }

    private static void list(StringBuilder page, String title, List<TestSummary.Event> events) {
        if (!events.isEmpty()) {
            page.append("\n%s:\n\n".formatted(title));
            events.forEach(event -> page.append("- %s\n".formatted(event)));
        }
    }
}
