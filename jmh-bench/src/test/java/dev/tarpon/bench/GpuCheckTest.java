package dev.tarpon.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The arguments of gpu-check; GpuCheckRehearsalTest runs its steps. */
class GpuCheckTest {
    private static final Path SCRIPT = Path.of("gpu-check").toAbsolutePath();

    private record Result(int code, String output) {}

    private static Result run(String... command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Result(process.waitFor(), output);
    }

    private static Result gpuCheck(String... arguments) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("bash", SCRIPT.toString()));
        command.addAll(Arrays.asList(arguments));
        return run(command.toArray(String[]::new));
    }

    @Test
    void isValidBash() throws Exception {
        Result result = run("bash", "-n", SCRIPT.toString());
        assertEquals(0, result.code(), result.output());
    }

    @Test
    void dryRunPrintsEveryStepAndWritesNothing(@TempDir Path directory) throws Exception {
        Path out = directory.resolve("out");
        Result result = gpuCheck("--dry-run", "--out", out.toString(), "--arch", "90a-real");
        assertEquals(0, result.code(), result.output());
        for (String step :
                List.of(
                        "== configure",
                        "== build",
                        "== native tests",
                        "== JUnit tests",
                        "== W4 GEMM benchmark",
                        "== KV cache benchmark",
                        "== Hadamard benchmark",
                        "== linear and optimizer benchmarks from Java",
                        "== report",
                        "-DTARPON_CUDA=ON",
                        "-DCMAKE_CUDA_ARCHITECTURES=90a-real")) {
            assertTrue(result.output().contains(step), step + " is not in\n" + result.output());
        }
        assertTrue(Files.notExists(out), "a dry run wrote " + out);
    }

    @Test
    void missingKitIsNamedWithHowToMakeIt(@TempDir Path directory) throws Exception {
        Result result = gpuCheck("--check-kit", "--kit", directory.toString());
        assertEquals(3, result.code(), result.output());
        assertTrue(result.output().contains("./mvnw -Pgpu-kit"), result.output());
    }

    @Test
    void wrongOptionsAreRefused() throws Exception {
        assertEquals(2, gpuCheck("--arhc", "90a").code());
        assertEquals(2, gpuCheck("--out").code());
        assertEquals(2, gpuCheck("--out", "").code());
    }
}
