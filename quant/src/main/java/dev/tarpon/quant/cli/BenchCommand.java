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

/** Runs the JMH benchmarks in a process of their own. */
@Command(
        name = "bench",
        mixinStandardHelpOptions = true,
        description = {
            "Run the benchmarks of jmh-bench.",
            "",
            "Everything after -- goes to JMH. Close other programs first: JMH measures the machine"
                    + " as it is."
        },
        footerHeading = "%nExamples:%n",
        footer = {
            "  ./tarpon bench -- -l                       list the benchmarks",
            "  ./tarpon bench -- Linear -rf json -rff linear.json",
            "  ./tarpon bench -- -h                       JMH's own options"
        })
final class BenchCommand implements Callable<Integer> {
    static final String JAR = "jmh-bench/target/benchmarks.jar";

    @Spec private CommandSpec spec;

    @Parameters(paramLabel = "JMH", arity = "0..*", description = "Arguments for JMH.")
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
        int code = new ProcessBuilder(command).inheritIO().start().waitFor();
        return code == 0 ? ExitCode.OK : ExitCode.FAILURE;
    }
}
