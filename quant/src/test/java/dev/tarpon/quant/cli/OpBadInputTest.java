package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsWriter;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/** Bad input: an exit code, a message with the tensor and the values, and no output file. */
class OpBadInputTest {
    @TempDir Path folder;

    @AfterEach
    void no_output_was_left() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            List<String> names = files.map(file -> file.getFileName().toString()).toList();
            assertTrue(
                    names.stream().noneMatch(name -> name.contains("out.safetensors")),
                    names::toString);
        }
    }

    @Test
    void test_op_names_a_missing_tensor() throws IOException {
        HostTensor x = floats("x", 2, 128);
        bad(run("linear", x), "there is no weight", "weight", "codes and scales", "qweight");
        bad(run("linear", floats("weight", 4, 128)), "'x'", "is missing", "there are: weight");
        bad(run("linear-pack", codes(0, 128, 4)), "'scales'", "is missing");
        bad(run("linear-unpack", qweight(8, 128)), "'scales_packed'", "is missing");
    }

    @Test
    void test_op_names_a_wrong_type() throws IOException {
        bad(run("linear-pack", codes(0, 128, 4).renamed("weight")), "'weight'", "U8", "F32");
        bad(
                run("linear-pack", floats("codes", 128, 4), halves("scales", 1, 4)),
                "'codes'",
                "F32",
                "U8");
        bad(run("linear-pack", codes(0, 128, 4), floats("scales", 1, 4)), "'scales'", "F32", "F16");
        bad(run("linear", qweight(8, 128).renamed("x"), floats("weight", 4, 128)), "'x'", "I32");
    }

    @Test
    void test_op_names_a_wrong_shape() throws IOException {
        HostTensor flat = Tensors.of("weight", ElementType.F32, new float[8], 8);
        bad(run("linear-pack", flat), "'weight'", "[8]", "matrix");
        HostTensor cube = Tensors.of("x", ElementType.F32, new float[8], 2, 2, 2);
        bad(run("linear", cube, floats("weight", 4, 2)), "'x'", "[2, 2, 2]");
        bad(
                run("linear", floats("x", 2, 100), floats("weight", 4, 128)),
                "'x'",
                "[2, 100]",
                "k 128");
        bad(
                run("linear-pack", codes(0, 256, 4), halves("scales", 1, 4)),
                "'scales'",
                "[1, 4]",
                "expected [2, 4]",
                "group 128");
        bad(
                run("linear-pack", codes(0, 256, 4), halves("scales", 2, 4), "--group", "-1"),
                "'scales'",
                "[2, 4]",
                "expected [1, 4]");
        bad(run("linear-unpack", qweight(8, 100), halves("scales_packed", 1, 50)), "[8, 100]");
        bad(
                run("linear-unpack", qweight(8, 128), halves("scales_packed", 2, 64)),
                "'scales_packed'",
                "[2, 64]",
                "expected [1, 64]");
        bad(
                run("linear-unpack", qweight(8, 128), halves("scales_packed", 1, 64), "--k", "100"),
                "'qweight'",
                "[8, 128]",
                "k 100");
        HostTensor empty = Tensors.of("weight", ElementType.F32, new float[0], 0, 128);
        bad(run("linear-pack", empty), "'weight'", "empty");
    }

    @Test
    void test_op_names_bad_contents() throws IOException {
        bad(run("linear-pack", codes(16, 128, 4), halves("scales", 1, 4)), "'codes'", "16");
        float[] nan = Tensors.random(1, 4 * 128);
        nan[130] = Float.NaN;
        bad(
                run("linear-pack", Tensors.of("weight", ElementType.F32, nan, 4, 128)),
                "'weight'",
                "nan");
        float[] huge = Tensors.constant(1e30f, 4 * 128);
        bad(
                run("linear-pack", Tensors.of("weight", ElementType.F32, huge, 4, 128)),
                "'weight'",
                "scale");
    }

    @Test
    void test_op_refuses_contradictions() throws IOException {
        HostTensor weight = floats("weight", 4, 128);
        bad(
                run("linear-pack", weight, codes(0, 128, 4), halves("scales", 1, 4)),
                "[weight, codes]",
                "--form");
        bad(run("linear-pack", weight, "--n", "5"), "'weight'", "n 4", "n 5");
        bad(run("linear-pack", weight, "--form", "qweight"), "form qweight");
        Path in = folder.resolve("in.safetensors");
        new SafetensorsWriter().add(weight).metadata("group", "-1").write(in);
        bad(op("linear-pack", in, "--group", "128"), "'group' is -1", "--group is 128");
        new SafetensorsWriter().add(weight).metadata("k", "many").write(in);
        bad(op("linear-pack", in), "'k'", "'many'");
        new SafetensorsWriter().add(weight).metadata("group", "0").write(in);
        bad(op("linear-pack", in), "group 0");
        new SafetensorsWriter().add(weight).metadata("group", "48").write(in);
        bad(op("linear-pack", in), "48");
        new SafetensorsWriter().add(weight).metadata("group", "99999999999").write(in);
        bad(op("linear-pack", in), "group 99999999999");
    }

    @Test
    void test_op_refuses_bad_files() throws IOException {
        Path absent = folder.resolve("absent.safetensors");
        bad(op("linear-pack", absent), absent.toString(), "no such file");
        Path text = Files.writeString(folder.resolve("text.safetensors"), "not safetensors at all");
        bad(op("linear-pack", text), text.toString(), "header length");
        Path cut = Tensors.write(folder.resolve("cut.safetensors"), floats("weight", 4, 128));
        byte[] bytes = Files.readAllBytes(cut);
        Files.write(cut, Arrays.copyOf(bytes, bytes.length - 1));
        bad(op("linear-pack", cut), "'weight'", "reach beyond");
    }

    @Test
    void test_op_refuses_a_bad_command_line() throws IOException {
        HostTensor weight = floats("weight", 4, 128);
        run("linear-pack", weight, "--bits", "3").fails(ExitCode.USAGE, "--bits 3");
        run("linear-pack", weight, "--group", "48").fails(ExitCode.USAGE, "--group 48");
        run("linear-pack", weight, "--form", "gptq").fails(ExitCode.USAGE, "gptq");
        run("linear", weight, "--device", "toaster").fails(ExitCode.USAGE, "toaster");
        CliRun.of("op", "linear-pack").fails(ExitCode.USAGE, "--in", "--out");
        CliRun.of("op").fails(ExitCode.USAGE, "name of an operation");
        CliRun.of("op", "quadratic").fails(ExitCode.USAGE, "quadratic");
        CliRun.of().fails(ExitCode.USAGE, "command is missing");
    }

    @Test
    void test_op_says_why_a_device_is_not_there() throws IOException {
        HostTensor[] tensors = {floats("x", 2, 128), floats("weight", 4, 128)};
        Path in = Tensors.write(folder.resolve("in.safetensors"), tensors);
        op("linear", in, "--device", "cpu:7").fails(ExitCode.DEVICE_UNAVAILABLE, "7");
        String reason = Tarpon.unavailableReason(DeviceKind.CUDA).orElse("");
        assumeTrue(!reason.isEmpty(), "device cuda is here");
        op("linear", in, "--device", "cuda").fails(ExitCode.DEVICE_UNAVAILABLE, reason);
    }

    @Test
    void test_op_with_verbose_shows_the_stack_trace() {
        Path absent = folder.resolve("absent.safetensors");
        CliRun run = op("linear-pack", absent, "--verbose");
        assertEquals(ExitCode.BAD_INPUT, run.exitCode());
        assertTrue(run.err().contains("\tat "), run.err());
    }

    private static void bad(CliRun run, String... parts) {
        run.fails(ExitCode.BAD_INPUT, parts);
    }

    /** Runs an operation on tensors, followed by flags. */
    private CliRun run(String op, Object... tensorsAndFlags) throws IOException {
        List<HostTensor> tensors = new ArrayList<>();
        List<Object> flags = new ArrayList<>();
        for (Object argument : tensorsAndFlags) {
            if (argument instanceof HostTensor tensor) {
                tensors.add(tensor);
            } else {
                flags.add(argument);
            }
        }
        Path in =
                Tensors.write(folder.resolve("in.safetensors"), tensors.toArray(HostTensor[]::new));
        return op(op, in, flags.toArray());
    }

    private CliRun op(String op, Path in, Object... flags) {
        List<Object> arguments =
                new ArrayList<>(
                        List.of("op", op, "--in", in, "--out", folder.resolve("out.safetensors")));
        arguments.addAll(Arrays.asList(flags));
        return CliRun.of(arguments.toArray());
    }

    private static HostTensor floats(String name, int rows, int columns) {
        float[] values = Tensors.random(rows, rows * columns);
        return Tensors.of(name, ElementType.F32, values, rows, columns);
    }

    private static HostTensor halves(String name, int rows, int columns) {
        float[] values = Tensors.constant(0.01f, rows * columns);
        return Tensors.of(name, ElementType.F16, values, rows, columns);
    }

    private static HostTensor codes(int code, int rows, int columns) {
        float[] values = Tensors.constant(code, rows * columns);
        return Tensors.of("codes", ElementType.U8, values, rows, columns);
    }

    private static HostTensor qweight(int rows, int columns) {
        return Tensors.of("qweight", ElementType.I32, new float[rows * columns], rows, columns);
    }
}
