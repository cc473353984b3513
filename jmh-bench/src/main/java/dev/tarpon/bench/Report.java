package dev.tarpon.bench;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Measurements with their environment, as JSON for programs and as a Markdown table for people. */
record Report(
        Environment environment,
        InterleavedRunner.Settings settings,
        List<Measurement> measurements,
        List<Skipped> skipped,
        List<Skipped> failed) {
    private static final Gson GSON =
            new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create();

    /** One row of the JSON file. */
    private record Row(
            String group,
            String series,
            String benchmark,
            Map<String, String> parameters,
            double medianNs,
            double minNs,
            double maxNs,
            List<Double> roundsNs,
            Double gigabytesPerSecond,
            Double gigaflops,
            Double percentOfRead,
            Double percentOfMultiplyAdd,
            Double nsPerElement,
            Double bytesPerElement,
            Double percentOfRoof,
            double timesReference) {}

    /** Writes NAME.json and NAME.md into a directory, which is made if need be. */
    void write(Path directory, String name) throws IOException {
        Files.createDirectories(directory);
        Files.writeString(directory.resolve(name + ".json"), toJson());
        Files.writeString(directory.resolve(name + ".md"), toMarkdown());
    }

    String toJson() {
        List<Row> rows = new ArrayList<>();
        groups().forEach(
                        (group, members) -> {
                            for (Measurement member : members) {
                                rows.add(row(member, members));
                            }
                        });
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("environment", environment);
        document.put("settings", settings);
        document.put("results", rows);
        document.put("skipped", skipped);
        document.put("failed", failed);
        return GSON.toJson(document) + "\n";
    }

    private Row row(Measurement member, List<Measurement> members) {
        BenchmarkCase benchmark = member.benchmark();
        double elements = benchmark.elements();
        return new Row(
                benchmark.group(),
                benchmark.series(),
                benchmark.method(),
                benchmark.parameters(),
                member.medianNs(),
                member.minNs(),
                member.maxNs(),
                member.roundsNs(),
                benchmark.bytes() > 0 ? member.gigabytesPerSecond() : null,
                benchmark.flops() > 0 ? member.gigaflops() : null,
                percentOfRead(member).orElse(null),
                percentOfMultiplyAdd(member).orElse(null),
                elements > 0 ? member.medianNs() / elements : null,
                elements > 0 ? benchmark.bytes() / elements : null,
                percentOfRoof(member, members).orElse(null),
                member.ratioTo(members.getFirst()));
    }

    /** Of the roof in the same rounds; empty where there is none to compare with. */
    private Optional<Double> percentOfRead(Measurement member) {
        return roofOf(member, BenchmarkCase.readRoof()).map(member::shareOfBytes).map(s -> 100 * s);
    }

    private Optional<Double> percentOfMultiplyAdd(Measurement member) {
        return roofOf(member, BenchmarkCase.multiplyAddRoof())
                .map(member::shareOfFlops)
                .map(s -> 100 * s);
    }

    private Optional<Measurement> roofOf(Measurement member, BenchmarkCase roof) {
        return measurements.stream()
                .filter(other -> member.benchmark().isLinearOnCpu())
                .filter(other -> other.benchmark().equals(roof))
                .findFirst();
    }

    /** Of the memory bandwidth that was measured in the same group, if it was. */
    private static Optional<Double> percentOfRoof(Measurement member, List<Measurement> members) {
        return members.stream()
                .filter(other -> other.benchmark().series().equals(BenchmarkCase.ROOF))
                .findFirst()
                .map(
                        roof ->
                                100
                                        * member.benchmark().bytes()
                                        / roof.benchmark().bytes()
                                        * roof.ratioTo(member));
    }

    String toMarkdown() {
        StringBuilder text = new StringBuilder();
        text.append("Command: `%s`\n\n".formatted(environment.command()));
        text.append(
                "Commit %s, %s; %s, %d logical processors; %s; NVIDIA driver: %s.\n"
                        .formatted(
                                environment.commit(),
                                environment.date(),
                                environment.processor(),
                                environment.logicalProcessors(),
                                environment.java(),
                                environment.nvidiaDriver()));
        text.append(
                "Median of %d interleaved rounds (least to most); the last column is the time in"
                                .formatted(settings.rounds())
                        + " units of the group's first row; % read and % FMA are of the roofs.\n");
        groups().forEach((group, members) -> appendTable(text, group, members));
        appendList(text, "Skipped", skipped);
        appendList(text, "Failed", failed);
        return text.toString();
    }

    private void appendTable(StringBuilder text, String group, List<Measurement> members) {
        if (members.getFirst().benchmark().elements() > 0) {
            appendElementTable(text, group, members);
            return;
        }
        text.append(
                "\n| %s | time | least to most | GB/s | %% read | GFLOP/s | %% FMA | times |\n"
                        .formatted(group));
        text.append("|---|--:|--:|--:|--:|--:|--:|--:|\n");
        for (Measurement member : members) {
            BenchmarkCase benchmark = member.benchmark();
            text.append(
                    "| %s | %s | %s to %s | %s | %s | %s | %s | %s |\n"
                            .formatted(
                                    benchmark.series(),
                                    duration(member.medianNs()),
                                    duration(member.minNs()),
                                    duration(member.maxNs()),
                                    benchmark.bytes() > 0
                                            ? threeDigits(member.gigabytesPerSecond())
                                            : "",
                                    rounded(percentOfRead(member)),
                                    benchmark.flops() > 0 ? threeDigits(member.gigaflops()) : "",
                                    rounded(percentOfMultiplyAdd(member)),
                                    threeDigits(member.ratioTo(members.getFirst()))));
        }
    }

    private static void appendElementTable(
            StringBuilder text, String group, List<Measurement> members) {
        text.append(
                "\n| %s | time | least to most | ns each | bytes each | GB/s | %% of roof | times |\n"
                        .formatted(group));
        text.append("|---|--:|--:|--:|--:|--:|--:|--:|\n");
        for (Measurement member : members) {
            BenchmarkCase benchmark = member.benchmark();
            text.append(
                    "| %s | %s | %s to %s | %s | %s | %s | %s | %s |\n"
                            .formatted(
                                    benchmark.series(),
                                    duration(member.medianNs()),
                                    duration(member.minNs()),
                                    duration(member.maxNs()),
                                    threeDigits(member.medianNs() / benchmark.elements()),
                                    threeDigits(benchmark.bytes() / benchmark.elements()),
                                    threeDigits(member.gigabytesPerSecond()),
                                    rounded(percentOfRoof(member, members)),
                                    threeDigits(member.ratioTo(members.getFirst()))));
        }
    }

    private static void appendList(StringBuilder text, String title, List<Skipped> entries) {
        if (!entries.isEmpty()) {
            text.append("\n%s:\n\n".formatted(title));
            entries.forEach(
                    entry -> text.append("- %s: %s\n".formatted(entry.what(), entry.reason())));
        }
    }

    private Map<String, List<Measurement>> groups() {
        Map<String, List<Measurement>> groups = new LinkedHashMap<>();
        for (Measurement measurement : measurements) {
            groups.computeIfAbsent(measurement.benchmark().group(), name -> new ArrayList<>())
                    .add(measurement);
        }
        return groups;
    }

    /** A time with three digits and its unit. */
    static String duration(double ns) {
        if (ns < 1e3) {
            return threeDigits(ns) + " ns";
        }
        return ns < 1e6 ? threeDigits(ns / 1e3) + " us" : threeDigits(ns / 1e6) + " ms";
    }

    private static String rounded(Optional<Double> value) {
        return value.map(number -> String.format(Locale.ROOT, "%.0f", number)).orElse("");
    }

    private static String threeDigits(double value) {
        int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
        return String.format(Locale.ROOT, "%." + decimals + "f", value);
    }
}
