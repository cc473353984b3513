package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.quant.generate.TinyLlama;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** kv-report, from the command line. */
class KvReportCommandTest {
    @TempDir Path folder;

    private Path model;
    private Path calibrationText;
    private Path calibration;

    @BeforeEach
    void calibrate() throws IOException {
        model = folder.resolve("model");
        TinyLlama.weights(5).save(model);
        calibrationText = text("calibration.txt", "Nothing is said twice in this house.");
        CliRun.of("calibrate-kv", model, "--text", calibrationText).succeeds();
        calibration = model.resolve("kv-calibration.safetensors");
    }

    private Path text(String name, String line) throws IOException {
        return Files.writeString(
                folder.resolve(name), (line + "\n\n").repeat(300 / line.length() + 1));
    }

    @Test
    void test_tables_and_page_of_a_model() throws IOException {
        Path page = folder.resolve("report.html");
        Path held = text("held-out.txt", "What was not seen before is what counts here.");
        String out =
                CliRun.of(
                                "kv-report",
                                model,
                                "--text",
                                held,
                                "--calibration",
                                calibration,
                                "--report",
                                page)
                        .succeeds()
                        .out();
        assertTrue(out.contains("all-MiniLM-L6-v2 on real sentences"), out);
        assertTrue(out.contains("256 tokens of held-out.txt, windows of 256"), out);
        assertTrue(out.contains("calibrated on 256 tokens of calibration.txt"), out);
        assertTrue(out.matches("(?s).*tarpon K4V2 +6\\.250 .*"), out);
        String html = Files.readString(page);
        assertTrue(html.contains("Held-out perplexity through the cache"), "the picture");
        assertTrue(html.contains("<td>rotatekv K2V2</td>"), "the table");
    }

    @Test
    void test_a_calibration_on_the_evaluations_text_is_refused() throws IOException {
        Path copy = folder.resolve("copy.txt");
        Files.copy(calibrationText, copy);
        CliRun.of("kv-report", model, "--text", copy, "--calibration", calibration)
                .fails(
                        ExitCode.BAD_INPUT,
                        "was calibrated on calibration.txt",
                        "copy.txt is the same text");
    }

    @Test
    void test_bad_input_is_named() throws IOException {
        CliRun.of("kv-report", "--text", calibrationText).fails(ExitCode.USAGE, "for a MODEL");
        Path little = Files.writeString(folder.resolve("little.txt"), "too little");
        CliRun.of("kv-report", model, "--text", little, "--calibration", calibration)
                .fails(ExitCode.BAD_INPUT, "little.txt", "window of the model, 256");
        Path other = folder.resolve("other");
        TinyLlama.weights(6).save(other);
        CliRun.of("kv-report", other, "--text", calibrationText, "--calibration", calibration)
                .fails(ExitCode.BAD_INPUT, "SHA-256");
    }
}
