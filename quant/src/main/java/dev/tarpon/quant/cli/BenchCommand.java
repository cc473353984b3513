package dev.tarpon.quant.cli;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;

/** Runs benchmarks.jar in a process of its own. */
@Command(
        name = "bench",
        mixinStandardHelpOptions = true,
        description = {
            "Run the benchmarks of jmh-bench.",
            "",
            "Everything after -- goes to benchmarks.jar, which runs in the repository's folder and"
                    + " writes its report to jmh-bench/results. Close other programs first: they"
                    + " take part in what is measured."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon bench -- --help                   what can be chosen",
            "  ./tarpon bench -- --benchmarks linear --shapes 4096x4096 --rows 1,16,128"
        })
final class BenchCommand implements Callable<Integer> {
    static final String JAR = "jmh-bench/target/benchmarks.jar";

    @Spec private CommandSpec spec;

    @Parameters(paramLabel = "ARG", arity = "0..*", description = "For benchmarks.jar.")
    private List<String> arguments = List.of();

    @Override
    public Integer call() throws IOException, InterruptedException {
        Path jar = Project.root().resolve(JAR);
        if (!Files.exists(jar)) {
            spec.commandLine()
                    .getErr()
                    .printf(
                            "tarpon: %s is not built; build it with: ./mvnw -DskipTests package%n",
                            jar);
            return ExitCode.FAILURE;
        }
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("--enable-native-access=ALL-UNNAMED");
        String library = System.getProperty("dev.tarpon.library.path");
        if (library != null) {
            command.add("-Ddev.tarpon.library.path=" + library);
        }
        command.add("-jar");
        command.add(jar.toString());
        command.addAll(arguments);
        int code =
                new ProcessBuilder(command)
                        .directory(Project.root().toFile())
                        .inheritIO()
                        .start()
                        .waitFor();
        return code == 0 ? ExitCode.OK : ExitCode.FAILURE;
    }
}
