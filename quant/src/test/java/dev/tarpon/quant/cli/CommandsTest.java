package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DeviceKind;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.xml.sax.InputSource;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

import javax.xml.parsers.DocumentBuilderFactory;

/** demo, quantize, inspect, doctor, bench and help as a user calls them. */
class CommandsTest {
    @TempDir Path folder;

    @Test
    void test_demo_agrees_and_writes_its_report() throws Exception {
        Path report = folder.resolve("report.html");
        CliRun run = CliRun.of("demo", "--report", report).succeeds();
        assertTrue(
                run.out().contains("36 linear layers in 4 bits, group 128, on cpu:0"), run.out());
        assertTrue(run.out().contains("Spearman"), run.out());
        assertTrue(run.out().contains(report.toString()), run.out());
        String html = Files.readString(report);
        int svgs = 0;
        for (int at = html.indexOf("<svg"); at >= 0; at = html.indexOf("<svg", at + 1)) {
            String svg = html.substring(at, html.indexOf("</svg>", at) + 6);
            var document =
                    DocumentBuilderFactory.newInstance()
                            .newDocumentBuilder()
                            .parse(new InputSource(new StringReader(svg)));
            assertTrue(document.getElementsByTagName("circle").getLength() >= 32);
            assertFalse(svg.contains("NaN"), "a point without a place");
            svgs++;
        }
        assertEquals(2, svgs);
        assertFalse(html.contains("http"), "the page loads nothing");
    }

    @Test
    void test_demo_runs_the_cuda_kernels_on_the_simulator() {
        String reason = Tarpon.unavailableReason(DeviceKind.SIM).orElse("");
        assumeTrue(reason.isEmpty(), () -> "device sim: " + reason);
        Path report = folder.resolve("report.html");
        CliRun run =
                CliRun.of("demo", "--device", "sim", "--pairs", 1, "--report", report).succeeds();
        assertTrue(run.out().contains("on sim:0"), run.out());
        assertTrue(run.out().contains("4-bit f16 through the library"), run.out());
        assertTrue(Files.exists(report));
    }

    @Test
    void test_demo_refuses_bad_options() {
        CliRun.of("demo", "--group", 48).fails(ExitCode.USAGE, "--group 48");
        CliRun.of("demo", "--pairs", 0).fails(ExitCode.USAGE, "--pairs 0");
        CliRun.of("demo", "--activation", "f64").fails(ExitCode.USAGE, "f64");
        CliRun.of("demo", "--device", "cpu:9").fails(ExitCode.DEVICE_UNAVAILABLE, "9");
    }

    @Test
    void test_quantize_packs_weights_and_copies_the_rest() throws IOException {
        Path in = folder.resolve("in.safetensors");
        HostTensor weight =
                Tensors.of("a.weight", ElementType.F16, Tensors.random(1, 65 * 200), 65, 200);
        HostTensor bias = Tensors.of("a.bias", ElementType.F32, Tensors.random(2, 65), 65);
        HostTensor embedding =
                Tensors.of("embed_tokens.weight", ElementType.F32, Tensors.random(3, 12), 3, 4);
        HostTensor norm = Tensors.of("norm.weight", ElementType.F32, new float[4], 2, 2);
        new SafetensorsWriter()
                .add(weight)
                .add(bias)
                .add(embedding)
                .add(norm)
                .metadata("format", "pt")
                .write(in);
        Path out = folder.resolve("out.safetensors");
        CliRun.of("quantize", in, "-o", out).succeeds();
        try (SafetensorsFile file = SafetensorsFile.open(out)) {
            assertEquals(5, file.tensors().size());
            assertEquals("pt", file.metadata().get("format"));
            assertEquals("[65, 200]", file.metadata().get("a.shape"));
            assertEquals("128", file.metadata().get("tarpon.group"));
        }
        for (HostTensor copied : new HostTensor[] {bias, embedding, norm}) {
            assertArrayEquals(
                    Tensors.bytes(copied), Tensors.bytes(Tensors.read(out, copied.name())));
        }
        Path one = Tensors.write(folder.resolve("one.safetensors"), weight.renamed("weight"));
        Path packed = folder.resolve("packed.safetensors");
        CliRun.of("op", "linear-pack", "--in", one, "--out", packed).succeeds();
        assertArrayEquals(
                Tensors.bytes(Tensors.read(packed, "qweight")),
                Tensors.bytes(Tensors.read(out, "a.qweight")));
        assertArrayEquals(
                Tensors.bytes(Tensors.read(packed, "scales_packed")),
                Tensors.bytes(Tensors.read(out, "a.scales")));
    }

    @Test
    void test_quantize_names_the_weight_it_cannot_quantise() throws IOException {
        float[] values = Tensors.random(1, 256);
        values[7] = Float.POSITIVE_INFINITY;
        Path in =
                Tensors.write(
                        folder.resolve("in.safetensors"),
                        Tensors.of("ok.weight", ElementType.F32, Tensors.random(2, 256), 2, 128),
                        Tensors.of("bad.weight", ElementType.F32, values, 2, 128));
        Path out = Files.writeString(folder.resolve("out.safetensors"), "old");
        CliRun.of("quantize", in, "-o", out).fails(ExitCode.BAD_INPUT, "'bad.weight'");
        assertEquals("old", Files.readString(out));
        CliRun.of("quantize", in, "-o", out, "--include", "none")
                .fails(ExitCode.BAD_INPUT, "no tensor is to be quantised");
        CliRun.of("quantize", in, "-o", out, "--include", "(")
                .fails(ExitCode.USAGE, "regular expression");
        CliRun.of("quantize", in, "-o", out, "--exclude", "bad.*").succeeds();
        assertArrayEquals(new long[] {2, 128}, Tensors.read(out, "bad.weight").shape());
    }

    @Test
    void test_quantize_reads_the_onnx_model() throws IOException {
        Path out = folder.resolve("out.safetensors");
        Path model = TestPaths.model("all-minilm-l6-v2.onnx");
        CliRun run = CliRun.of("quantize", model, "-o", out, "--group", -1).succeeds();
        assertTrue(run.out().contains("36 linear layers"), run.out());
        try (SafetensorsFile file = SafetensorsFile.open(out)) {
            String layer = "encoder.layer.5.intermediate.dense";
            assertEquals("[1536, 384]", file.metadata().get(layer + ".shape"));
            assertArrayEquals(
                    new long[] {24, 3072}, file.find(layer + ".qweight").orElseThrow().shape());
            assertArrayEquals(
                    new long[] {1, 1536}, file.find(layer + ".scales").orElseThrow().shape());
            long packed =
                    file.tensors().stream().filter(t -> t.name().endsWith(".qweight")).count();
            assertEquals(36, packed);
            assertTrue(file.find("embeddings.word_embeddings.weight").isPresent());
            assertTrue(file.find("onnx::MatMul_787").isEmpty(), "no weight is there twice");
        }
    }

    @Test
    void test_inspect_lists_both_formats() throws IOException {
        Path file = folder.resolve("in.safetensors");
        new SafetensorsWriter()
                .add(Tensors.of("a\u001b[2J", ElementType.F16, new float[6], 2, 3))
                .metadata("made", "here")
                .write(file);
        String out = CliRun.of("inspect", file).succeeds().out();
        assertTrue(out.contains("made  here"), out);
        assertTrue(out.contains("a\\u001b[2J  F16   [2, 3]  12"), out);
        assertFalse(out.contains("\u001b"), "escapes of a file do not reach the terminal");

        Path model = TestPaths.model("all-minilm-l6-v2.onnx");
        String onnx = CliRun.of("inspect", model).succeeds().out();
        String line =
                Arrays.stream(onnx.split("\n"))
                        .filter(text -> text.contains("onnx::MatMul_787 "))
                        .findFirst()
                        .orElseThrow();
        assertTrue(line.contains("F32"), line);
        assertTrue(line.contains("[384, 384]"), line);
        assertTrue(line.contains("= encoder.layer.0.attention.self.query.weight"), line);
        assertEquals(out, CliRun.of("inspect", folder).succeeds().out(), "a folder of one file");
        Path cut = folder.resolve("cut.onnx");
        Files.write(cut, Arrays.copyOf(Files.readAllBytes(model), 1000));
        CliRun.of("inspect", cut).fails(ExitCode.BAD_INPUT, "are announced");
    }

    @Test
    void test_doctor_reports_what_it_finds() {
        CliRun run = CliRun.of("doctor");
        assertTrue(run.out().contains("ok      JDK"), run.out());
        assertTrue(run.out().contains("ok      libtarpon"), run.out());
        assertTrue(run.out().contains("ok      device cpu:0"), run.out());
        boolean missing = run.out().contains("MISSING");
        assertEquals(missing ? ExitCode.FAILURE : ExitCode.OK, run.exitCode(), run.out());
    }

    @Test
    void test_help_teaches_every_command() {
        String help = CliRun.of("--help").succeeds().out();
        assertTrue(help.contains("Exit codes"), help);
        for (String command : new String[] {"demo", "quantize", "inspect", "doctor", "bench"}) {
            assertTrue(help.contains(command), command);
            String text = CliRun.of(command, "--help").succeeds().out();
            assertTrue(text.contains("Usage: tarpon " + command), text);
        }
        for (String op : new String[] {"linear-pack", "linear-unpack", "linear"}) {
            String text = CliRun.of("op", op, "--help").succeeds().out();
            assertTrue(text.contains("Reads") && text.contains("Writes"), text);
        }
        assertTrue(CliRun.of("--version").succeeds().out().startsWith("tarpon "));
    }
}
