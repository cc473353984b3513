package dev.tarpon.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import picocli.CommandLine;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * All of gpu-check but the GPU: CMake, nvcc, ctest, the benchmarks and the kit's Java are stand-ins
 * that leave what the real ones leave; the script and GpuReport are the real ones.
 */
class GpuCheckRehearsalTest {
    private static final Path SCRIPT = Path.of("gpu-check").toAbsolutePath();

    /** What the script uses of the system; nothing else is on its PATH. */
    private static final List<String> SYSTEM_TOOLS =
            List.of(
                    "bash",
                    "cat",
                    "chmod",
                    "cut",
                    "dirname",
                    "du",
                    "env",
                    "grep",
                    "head",
                    "mkdir",
                    "nproc",
                    "realpath",
                    "rm",
                    "sort",
                    "tee",
                    "tr");

    private static final String GEMM_ROWS =
            """
            {"k": 4096, "n": 4096, "m": 1, "group": 128, "us": 4.5, "gbps": 1980, \
            "copy_gbps": 4100, "tflops": 7.5, "model_us": 4.1, "cublas_us": 13.5, \
            "tile": "8x64x256", "grid": 264}
            {"k": 4096, "n": 4096, "m": 16, "group": 128, "us": 5, "gbps": 1800, \
            "copy_gbps": 4100, "tflops": 107, "model_us": 4.3, "tile": "16x64x256", "grid": 264}
            """;

    /** A blank in every path: what is not quoted breaks. */
    @TempDir Path temporary;

    private Path work;
    private Path tools;
    private Path kit;
    private Path build;
    private Path out;

    private record Result(int code, String output) {
        void assertSays(String text) {
            assertTrue(output.contains(text), () -> "\"" + text + "\" is not in\n" + output);
        }
    }

    @BeforeEach
    void makeMachineAndKit() throws IOException {
        work = Files.createDirectory(temporary.resolve("a machine"));
        tools = Files.createDirectory(work.resolve("tools"));
        kit = work.resolve("the kit");
        build = work.resolve("the build");
        out = work.resolve("the report");
        for (String tool : SYSTEM_TOOLS) {
            executable(tools.resolve(tool), "exec %s \"$@\"".formatted(systemTool(tool)));
        }
        tool("nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'");
        tool("make", "exit 0");
        tool("g++", "echo 12.2.0");
        tool("nvidia-smi", "case \"$*\" in *compute_cap*) echo 9.0;; *) echo A GPU;; esac");
        tool("cmake", cmake());
        tool("ctest", ctest("12 passed, 0 failed, 0 skipped", ""));
        Files.createDirectories(kit.resolve("jre/bin"));
        Files.createDirectories(kit.resolve("tests"));
        for (String file : List.of("benchmarks.jar", "junit.jar")) {
            Files.createFile(kit.resolve(file));
        }
        Files.writeString(kit.resolve("commit"), "0123456789ab\n");
        executable(kit.resolve("jre/bin/java"), java());
    }

    /** Configuring makes the programs that a build would make. */
    private static String cmake() {
        return """
        [ "$1" != --version ] || { echo cmake version 3.25.1; exit 0; }
        [ "$1" != --build ] || exit 0
        while [ "$1" != -B ]; do shift; done
        mkdir -p "$2/kernels-cu/w4_gemm" "$2/kernels-cu/kv_cache" "$2/kernels-cu/hadamard"
        cp_program() { cat >"$1"; chmod 755 "$1"; }
        cp_program "$2/kernels-cu/w4_gemm/w4_gemm_bench" <<'END'
        #!/usr/bin/env bash
        [ "$1 $3" = "--m --json" ] || exit 9
        echo "figures of w4_gemm_bench"
        cat >"$4" <<'ROWS'
        %sROWS
        END
        printf '#!/usr/bin/env bash\\necho figures of kv_cache_gpu_bench\\n' |
            cp_program "$2/kernels-cu/kv_cache/kv_cache_gpu_bench"
        printf '#!/usr/bin/env bash\\necho figures of hadamard_gpu_bench\\n' |
            cp_program "$2/kernels-cu/hadamard/hadamard_gpu_bench"
        """
                .formatted(GEMM_ROWS);
    }

    private static String ctest(String closingLine, String failure) {
        return """
        while [ "$1" != --test-dir ]; do shift; done
        cat >"$2/ctest.xml" <<'END'
        <testsuite name="x"><testcase name="w4_gemm_test_cuda" classname="w4_gemm_test_cuda">
        %s<system-out>%s</system-out></testcase></testsuite>
        END
        %s
        """
                .formatted(failure, closingLine, failure.isEmpty() ? "exit 0" : "exit 8");
    }

    /** JUnit and the benchmarks leave samples; the report is made by the real class. */
    private static String java() {
        return """
        case "$*" in
        *GpuReport*)
            while [ "$1" != dev.tarpon.bench.GpuReport ]; do shift; done
            shift
            exec "%s/bin/java" --enable-native-access=ALL-UNNAMED \
                "-Ddev.tarpon.library.path=%s" -cp "%s" dev.tarpon.bench.GpuReport "$@" ;;
        *junit.jar*)
            while [ "$1" != --reports-dir ]; do shift; done
            cat >"$2/TEST-junit-jupiter.xml" <<'END'
        <testsuite name="x"><testcase name="a()" classname="dev.tarpon.LinearTest"/></testsuite>
        END
            ;;
        *benchmarks.jar*)
            while [ "$1" != --out ]; do shift; done
            echo '{"results": []}' >"$2/benchmarks.json"
            echo 'the table of benchmarks' >"$2/benchmarks.md" ;;
        esac
        """
                .formatted(
                        System.getProperty("java.home"),
                        System.getProperty("dev.tarpon.library.path"),
                        classPath());
    }

    /** What benchmarks.jar would have of GpuReport. */
    private static String classPath() {
        return Stream.of(GpuReport.class, Tarpon.class, Gson.class, CommandLine.class)
                .map(type -> type.getProtectionDomain().getCodeSource().getLocation().getPath())
                .collect(Collectors.joining(":"));
    }

    private static Path systemTool(String name) {
        return Arrays.stream(System.getenv("PATH").split(":"))
                .map(folder -> Path.of(folder, name))
                .filter(Files::isExecutable)
                .findFirst()
                .orElseThrow(() -> new AssertionError(name + " is not on PATH"));
    }

    private void tool(String name, String text) throws IOException {
        executable(tools.resolve(name), text);
    }

    private static void executable(Path file, String text) throws IOException {
        Files.deleteIfExists(file);
        Files.writeString(file, "#!%s\n%s".formatted(systemTool("bash"), text));
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private Result gpuCheck(String... arguments) throws IOException, InterruptedException {
        List<String> command =
                new ArrayList<>(
                        List.of(tools.resolve("bash").toString(), SCRIPT.toString(), "--kit"));
        command.addAll(
                List.of(kit.toString(), "--build", build.toString(), "--out", out.toString()));
        command.addAll(Arrays.asList(arguments));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        // Not the repository's folder: the script must find its own way.
        builder.directory(work.toFile());
        builder.environment().put("PATH", tools.toString());
        Process process = builder.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Result(process.waitFor(), output);
    }

    /** Without a GPU the report itself is what fails, since nothing has run on one. */
    private static boolean hasGpu() {
        return Tarpon.deviceCount(DeviceKind.CUDA) > 0;
    }

    @Test
    void everyStepRunsAndTheReportHasItsFigures() throws Exception {
        Result result = gpuCheck();
        if (hasGpu()) {
            assertEquals(0, result.code(), result.output());
            result.assertSays("gpu-check: everything passed");
        } else {
            assertEquals(1, result.code(), result.output());
            result.assertSays("gpu-check: FAILED: report\n");
        }
        result.assertSays("-DCMAKE_CUDA_ARCHITECTURES=90a-real");
        String page = Files.readString(out.resolve("gpu-check.md"));
        for (String text :
                List.of(
                        "| commit | 0123456789ab |",
                        "| tests | 13 passed, ",
                        "| 4096x4096, M | us | GB/s | of copy | TFLOP/s | cuBLAS fp16 us | faster"
                                + " |",
                        "| 1 | 4.50 | 1980 | 48% | 7.5 | 13.50 | 3.00x |",
                        "| 16 | 5.00 | 1800 | 44% | 107.0 |  |  |",
                        "the table of benchmarks",
                        "figures of w4_gemm_bench",
                        "figures of kv_cache_gpu_bench",
                        "figures of hadamard_gpu_bench")) {
            assertTrue(page.contains(text), () -> "\"" + text + "\" is not in\n" + page);
        }
        JsonObject document =
                JsonParser.parseString(Files.readString(out.resolve("gpu-check.json")))
                        .getAsJsonObject();
        assertEquals(2, document.getAsJsonArray("gemm").size());
        assertEquals(
                13, document.getAsJsonObject("tests").get("passed").getAsInt(), document::toString);
    }

    @Test
    void aFailingNativeTestIsNamedAndTheRestRuns() throws Exception {
        tool("ctest", ctest("11 passed, 1 failed, 0 skipped", "<failure message=\"Failed\"/>"));
        Result result = gpuCheck("--tests-only");
        assertEquals(1, result.code(), result.output());
        result.assertSays("== native tests: exit code 8, log " + out.resolve("logs/ctest.log"));
        result.assertSays("gpu-check: FAILED: native tests, report");
        String page = Files.readString(out.resolve("gpu-check.md"));
        assertTrue(page.contains("- ctest the build: w4_gemm_test_cuda: Failed"), page);
        assertFalse(result.output().contains("== W4 GEMM benchmark"), result.output());
    }

    @Test
    void aFailingBenchmarkIsNamedAndItsFiguresAreMissed() throws Exception {
        tool("cmake", cmake().replace("exit 9", "exit 9; exit 1").replace("--m --json", "never"));
        Result result = gpuCheck();
        assertEquals(1, result.code(), result.output());
        result.assertSays("gpu-check: FAILED: W4 GEMM benchmark, report");
        String page = Files.readString(out.resolve("gpu-check.md"));
        assertTrue(page.contains("- gpu-check: w4_gemm.jsonl: is not there"), page);
        assertTrue(page.contains("figures of hadamard_gpu_bench"), page);
    }

    @Test
    void aFailedBuildEndsTheRun() throws Exception {
        tool("cmake", cmake().replace("--build ] || exit 0", "--build ] || exit 2"));
        Result result = gpuCheck();
        assertEquals(1, result.code(), result.output());
        result.assertSays("gpu-check: FAILED: build");
        assertFalse(result.output().contains("== native tests"), result.output());
    }

    @Test
    void whatIsMissingIsNamed() throws Exception {
        Files.delete(tools.resolve("nvcc"));
        tool("g++", "echo 11.4.0");
        tool("nvidia-smi", "echo no devices were found; exit 6");
        Files.delete(kit.resolve("junit.jar"));
        Result result = gpuCheck();
        assertEquals(3, result.code(), result.output());
        result.assertSays("gpu-check: nvcc is not on PATH");
        result.assertSays("gpu-check: g++ 11.4.0 found, 12 or newer needed");
        result.assertSays("gpu-check: nvidia-smi names no GPU: no devices were found");
        result.assertSays("the kit/junit.jar is missing: make the kit with ./mvnw -Pgpu-kit");
        assertTrue(Files.notExists(out), "a run that could not begin wrote " + out);
    }

    @Test
    void onlyItsOwnFilesAreReplaced() throws Exception {
        Files.createDirectories(out.resolve("logs"));
        Files.writeString(out.resolve("logs/old.log"), "of an earlier run");
        Files.writeString(out.resolve("notes.txt"), "somebody's");
        gpuCheck("--tests-only");
        assertEquals("somebody's", Files.readString(out.resolve("notes.txt")));
        assertTrue(Files.notExists(out.resolve("logs/old.log")));
        assertTrue(Files.exists(out.resolve("logs/ctest.log")));
    }
}
