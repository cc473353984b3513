package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.quant.generate.TinyLlama;
import dev.tarpon.quant.kv.KvDevices;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** calibrate-kv and generate, from the command line. */
class GenerateCommandTest {
    private static final String TEXT = "It is a truth of the house that nothing is said twice.\n\n";

    @TempDir Path folder;

    private Path model;
    private Path text;

    @BeforeEach
    void write() throws IOException {
        model = folder.resolve("model");
        TinyLlama.weights(5).save(model);
        text = Files.writeString(folder.resolve("text.txt"), TEXT.repeat(12));
    }

    /** What the model wrote, without the facts behind it. */
    private static String written(CliRun run) {
        return run.succeeds().out().split("\n\n[0-9]+ tokens at")[0];
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "sim", "cuda"})
    void test_calibrated_generation_on_any_device(String device) throws IOException {
        KvDevices.open(device).close();
        CliRun calibrated = CliRun.of("calibrate-kv", model, "--text", text, "--tokens", 600);
        assertTrue(
                calibrated.succeeds().out().contains("512 tokens of text.txt"), calibrated.out());
        CliRun run =
                CliRun.of(
                        "generate",
                        model,
                        "--prompt",
                        "It is ",
                        "--tokens",
                        12,
                        "--device",
                        device,
                        "--kv-bits",
                        "4,2",
                        "--window",
                        8);
        String out = run.succeeds().out();
        assertTrue(out.startsWith("It is "), out);
        assertTrue(out.contains("12 tokens at "), out);
        assertTrue(out.matches("(?s).*cache: tarpon K4V2, \\d+ sinks and a window of 8.*"), out);
        assertTrue(out.contains("calibration: on text.txt"), out);
        assertTrue(out.contains("the same likeliest token at "), out);
        assertTrue(out.matches("(?s).*cache bytes: .* against .*x smaller\n"), out);
        out = CliRun.of("generate", model, "--tokens", 4, "--sinks", "massive").succeeds().out();
        assertTrue(out.contains("cache: tarpon K2V2, massive sinks, 4.0 sinks a layer"), out);
    }

    @Test
    void test_a_saved_cache_goes_on_with_the_same_text() {
        Path cache = folder.resolve("cache.safetensors");
        Object[] common = {
            "generate", model, "--temperature", 0.7, "--no-comparison", "--kv-mode", "rotatekv"
        };
        String whole = written(run(common, "--prompt", "abc", "--tokens", 60));
        String first =
                written(run(common, "--prompt", "abc", "--tokens", 25, "--save-cache", cache));
        String rest = written(run(common, "--load-cache", cache, "--tokens", 35));
        // Bytes that are no UTF-8 at the seam are shown by each side on its own.
        int seam = first.length() - 4;
        assertEquals(whole.substring(0, seam), first.substring(0, seam));
        int shared = rest.length() - 4;
        assertEquals(
                whole.substring(whole.length() - shared), rest.substring(rest.length() - shared));
        run(common, "--load-cache", cache, "--kv-bits", 4)
                .fails(ExitCode.BAD_INPUT, "cache.safetensors", "keyBits=2", "keyBits=4");
        run(common, "--load-cache", cache, "--group", 32).fails(ExitCode.BAD_INPUT, "linear_group");
    }

    private static CliRun run(Object[] common, Object... more) {
        Object[] all = Arrays.copyOf(common, common.length + more.length);
        System.arraycopy(more, 0, all, common.length, more.length);
        return CliRun.of(all);
    }

    @Test
    void test_bad_input_is_named() throws IOException {
        int usage = ExitCode.USAGE;
        CliRun.of("generate", model, "--kv-bits", "2,5").fails(usage, "--kv-bits 5");
        CliRun.of("generate", model, "--kv-bits", "2,2,2").fails(usage, "3 numbers");
        CliRun.of("generate", model, "--tokens", 300)
                .fails(usage, "300 are asked", "256 positions");
        CliRun.of("generate", model, "--temperature", -1).fails(usage, "-1.0");
        CliRun.of("generate", model, "--group", 48).fails(usage, "48");
        CliRun.of("generate", model, "--sinks", "300").fails(usage, "--sinks 300", "massive");
        CliRun.of("generate", model, "--sinks", "all").fails(usage, "--sinks all");
        CliRun.of("generate", model, "--window", 2000).fails(usage, "--window 2000");
        int bad = ExitCode.BAD_INPUT;
        CliRun.of("generate", folder).fails(bad, "config.json");
        CliRun.of("calibrate-kv", model, "--text", folder.resolve("none")).fails(bad, "none");
        Path little = Files.writeString(folder.resolve("little.txt"), "too little");
        CliRun.of("calibrate-kv", model, "--text", little)
                .fails(bad, "little.txt", "12 tokens", "window of the model, 256");
        CliRun.of("calibrate-kv", model, "--text", text).succeeds();
        Path other = folder.resolve("other");
        TinyLlama.weights(6).save(other);
        CliRun.of("generate", other, "--calibration", model.resolve("kv-calibration.safetensors"))
                .fails(bad, "kv-calibration.safetensors", "SHA-256");
    }
}
