package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.quant.format.GgufBytes;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** doctor --explain-linear, and inspect of GGUF files. */
class ExplainTest {
    @TempDir Path folder;

    @Test
    void test_explain_linear_names_the_choice() {
        String h200 = CliRun.of("doctor", "--explain-linear", 16, 8192, 8192).succeeds().out();
        assertTrue(h200.contains("8192"), h200);
        String a100 =
                CliRun.of("doctor", "--explain-linear", 16, 8192, 8192, "--compute-capability", 80)
                        .succeeds()
                        .out();
        assertNotEquals(h200, a100);
        CliRun.of("doctor", "--explain-linear", 16, 8192).fails(ExitCode.USAGE, "SIZE");
        CliRun.of("doctor", "--explain-linear", 16, 8192, 8192, "--group", 48)
                .fails(ExitCode.USAGE, "48");
        CliRun.of("doctor", "--explain-linear", 16, 0, 8192)
                .fails(ExitCode.FAILURE, "out_features is 0");
    }

    @Test
    void test_inspect_lists_gguf_files() throws IOException {
        byte[] bytes =
                new GgufBytes()
                        .text("general.name", "small")
                        .strings("tokenizer.ggml.tokens", "a", "b")
                        .tensor("blk.0.attn_q.weight", 12, new byte[144], 256, 1)
                        .build();
        Path file = Files.write(folder.resolve("small.gguf"), bytes);
        String out = CliRun.of("inspect", file).succeeds().out();
        assertTrue(out.contains("small"), out);
        assertTrue(out.contains("string[2]"), out);
        assertTrue(out.contains("blk.0.attn_q.weight  Q4_K  [1, 256]  144"), out);
        Path cut = Files.write(folder.resolve("cut.gguf"), java.util.Arrays.copyOf(bytes, 200));
        CliRun.of("inspect", cut).fails(ExitCode.BAD_INPUT, "cut.gguf");
    }
}
