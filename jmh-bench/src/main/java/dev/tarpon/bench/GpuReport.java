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

    @Option(names = "--kernels", description = "output of the native kernel benchmark")
    private Optional<Path> kernels = Optional.empty();

    @Option(names = "--commit", required = true)
    private String commit;

    @Option(names = "--command", required = true)
    private String command;

    public static void main(String[] arguments) {
        System.exit(new CommandLine(new GpuReport()).execute(arguments));
    }

    @Override
    public Integer call() throws IOException {
        TestSummary tests = new TestSummary();
        tests.add(ctest);
        tests.add(junit);
        Optional<String> noGpu = Tarpon.unavailableReason(DeviceKind.CUDA);
        noGpu.ifPresent(
                reason -> tests.failed().add(new TestSummary.Event("gpu-check", "cuda", reason)));
        Environment environment = Environment.read(command, Optional.of(commit));
        Files.createDirectories(out);
        Files.writeString(out.resolve("gpu-check.json"), toJson(environment, tests));
        String page = toMarkdown(environment, tests);
        Files.writeString(out.resolve("gpu-check.md"), page);
        System.out.print(page);
        return tests.failed().isEmpty() && tests.passed() > 0 ? 0 : 1;
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
        if (benchmarks.isPresent()) {
            JsonElement report = JsonParser.parseString(Files.readString(benchmarks.get()));
            document.put("benchmarks", report);
        }
        if (kernels.isPresent()) {
            document.put("kernels", Files.readAllLines(kernels.get()));
        }
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
        if (benchmarks.isPresent()) {
            Path table = Path.of(benchmarks.get().toString().replaceFirst("\\.json$", ".md"));
            page.append("\n## Benchmarks\n\n").append(Files.readString(table));
        }
        if (kernels.isPresent()) {
            page.append("\n## Kernels\n\n```\n");
            page.append(Files.readString(kernels.get())).append("```\n");
        }
        return page.toString();
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
