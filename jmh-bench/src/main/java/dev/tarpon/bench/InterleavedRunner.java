package dev.tarpon.bench;

import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Runs cases in rounds: every case once a round, each in a fork of its own, so that a machine that
 * grows slower or faster meanwhile does so for all of them, and ratios within a round hold.
 */
final class InterleavedRunner {
    /** How long and how often each case is measured. */
    record Settings(int rounds, int warmupIterations, int iterations, int milliseconds) {}

    /** What was measured, and what failed with which message. */
    record Outcome(List<Measurement> measurements, List<Skipped> failures) {}

    private static final String LIBRARY_PATH = "dev.tarpon.library.path";

    private final Settings settings;
    private final PrintStream progress;

    InterleavedRunner(Settings settings, PrintStream progress) {
        this.settings = settings;
        this.progress = progress;
    }

    Outcome run(List<BenchmarkCase> cases) {
        Map<BenchmarkCase, List<Double>> rounds = new LinkedHashMap<>();
        cases.forEach(benchmark -> rounds.put(benchmark, new ArrayList<>()));
        List<Skipped> failures = new ArrayList<>();
        for (int round = 1; round <= settings.rounds; round++) {
            for (BenchmarkCase benchmark : List.copyOf(rounds.keySet())) {
                String name = benchmark.group() + ": " + benchmark.series();
                try {
                    double ns = runFork(benchmark) / benchmark.runsPerInvocation();
                    rounds.get(benchmark).add(ns);
                    progress.printf(
                            "round %d/%d  %s  %s%n",
                            round, settings.rounds, name, Report.duration(ns));
                } catch (RunnerException failure) {
                    rounds.remove(benchmark);
                    failures.add(new Skipped(name, failure.getMessage()));
                    progress.printf("FAILED %s: %s%n", name, failure.getMessage());
                }
            }
        }
        List<Measurement> measurements = new ArrayList<>();
        rounds.forEach((benchmark, ns) -> measurements.add(new Measurement(benchmark, ns)));
        return new Outcome(measurements, failures);
    }

    /** Nanoseconds an invocation: the median of the iterations of one fork. */
    private double runFork(BenchmarkCase benchmark) throws RunnerException {
        Path log = temporaryLog();
        try {
            TimeValue time = TimeValue.milliseconds(settings.milliseconds);
            ChainedOptionsBuilder options =
                    new OptionsBuilder()
                            .include("^" + Pattern.quote(benchmark.method()) + "$")
                            .forks(1)
                            .warmupIterations(settings.warmupIterations)
                            .warmupTime(time)
                            .measurementIterations(settings.iterations)
                            .measurementTime(time)
                            .shouldFailOnError(true)
                            .output(log.toString());
            String library = System.getProperty(LIBRARY_PATH);
            if (library != null) {
                options.jvmArgsAppend(
                        "--enable-native-access=ALL-UNNAMED", "-D" + LIBRARY_PATH + "=" + library);
            }
            benchmark.parameters().forEach(options::param);
            RunResult result = new Runner(options.build()).runSingle();
            return result.getPrimaryResult().getStatistics().getPercentile(50);
        } catch (RunnerException failure) {
            printLog(log);
            throw failure;
        } finally {
            delete(log);
        }
    }

    private static Path temporaryLog() {
        try {
            return Files.createTempFile("tarpon-jmh", ".log");
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    private void printLog(Path log) {
        try {
            progress.print(Files.readString(log));
        } catch (IOException failure) {
            progress.println("JMH's output could not be read: " + failure);
        }
    }

    private static void delete(Path log) {
        try {
            Files.deleteIfExists(log);
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }
}
