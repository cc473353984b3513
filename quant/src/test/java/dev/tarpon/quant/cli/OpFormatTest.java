package dev.tarpon.quant.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tarpon.DeviceKind;
import dev.tarpon.HalfFloats;
import dev.tarpon.Tarpon;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.quant.TestPaths;
import dev.tarpon.quant.format.GgufBytes;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** The linear operations on weights in the formats of checkpoints. */
class OpFormatTest {
    private static final double MEAN_RELATIVE_ERROR = 5e-4;
    private static final int M = 5;
    private static final int K = 256;
    private static final int N = 64;

    @TempDir Path folder;

    private Path unpacked(String format, Path in, Object... more) {
        Path out = folder.resolve("unpacked.safetensors");
        var arguments = new ArrayList<Object>(List.of("op", "linear-unpack", "--format", format));
        arguments.addAll(List.of("--in", in, "--out", out));
        arguments.addAll(List.of(more));
        CliRun.of(arguments.toArray()).succeeds();
        return out;
    }

    private static void assertSame(HostTensor want, HostTensor got) {
        assertArrayEquals(want.shape(), got.shape(), got.name());
        assertArrayEquals(Tensors.bytes(want), Tensors.bytes(got), got.name());
    }

    // ---- Golden checkpoints

    private static Path golden(String name, int k, int n, int group) {
        return TestPaths.golden("%s_k%d_n%d_g%d.safetensors".formatted(name, k, n, group));
    }

    /** The tensors of a golden file that a checkpoint has. */
    private Path checkpoint(Path golden, String... names) throws IOException {
        List<HostTensor> tensors = new ArrayList<>();
        for (String name : names) {
            tensors.add(Tensors.read(golden, name).renamed(name.replace("_v2", "")));
        }
        return Tensors.write(
                folder.resolve("checkpoint.safetensors"), tensors.toArray(new HostTensor[0]));
    }

    @ParameterizedTest
    @CsvSource({
        "gptq_sym, gptq, qzeros, 128, 256, 128",
        "gptq_asym, gptq, qzeros, 256, 512, 128",
        "gptq_asym, gptq, qzeros, 256, 512, -1",
        "gptq_asym, gptq_v2, qzeros_v2, 256, 512, 128",
        "gptq_actorder, gptq, qzeros, 256, 512, 128",
        "awq_gemm, awq, qzeros, 256, 512, 128",
        "awq_gemm, awq, qzeros, 128, 256, -1"
    })
    void test_golden_checkpoints_are_read_bit_faithfully(
            String name, String format, String zeros, int k, int n, int group) throws IOException {
        Path golden = golden(name, k, n, group);
        String[] names =
                format.equals("awq")
                        ? new String[] {"qweight", "scales", zeros}
                        : new String[] {"qweight", "scales", "g_idx", zeros};
        Path in = checkpoint(golden, names);
        Path out = unpacked(format, in);
        assertSame(Tensors.read(golden, "codes"), Tensors.read(out, "codes"));
        assertSame(Tensors.read(golden, "scales"), Tensors.read(out, "scales"));
        if (!name.equals("gptq_sym")) {
            assertSame(Tensors.read(golden, "zeros"), Tensors.read(out, "zeros"));
        }
        float[] weight = Tensors.read(out, "dequantized").toFloats();
        float[] expected = Tensors.read(golden, "w_dequant_fp16").toFloats();
        for (int i = 0; i < weight.length; i++) {
            short half = HalfFloats.toFloat16(weight[i]);
            assertEquals(expected[i], HalfFloats.fromFloat16(half), "weight " + i);
        }
    }

    @Test
    void test_symmetric_gptq_goes_to_marlin_and_others_do_not() throws IOException {
        Path out = folder.resolve("packed.safetensors");
        Path golden = golden("gptq_sym", 256, 512, 128);
        Path symmetric = checkpoint(golden, "qweight", "qzeros", "scales", "g_idx");
        CliRun.of("op", "linear-pack", "--format", "gptq", "--in", symmetric, "--out", out)
                .succeeds();
        Path marlin = golden("marlin", 256, 512, 128);
        assertSame(Tensors.read(marlin, "B"), Tensors.read(out, "qweight"));
        assertSame(Tensors.read(marlin, "s_packed"), Tensors.read(out, "scales_packed"));

        Path other = golden("gptq_asym", 256, 512, 128);
        Path asymmetric = checkpoint(other, "qweight", "qzeros", "scales", "g_idx");
        CliRun.of("op", "linear-pack", "--format", "gptq", "--in", asymmetric, "--out", out)
                .fails(ExitCode.BAD_INPUT, "INT4 INTEGER", "MARLIN");
    }

    // ---- Every format against its own dequantised weight

    private static byte[] bytes(int count, long seed) {
        byte[] bytes = new byte[count];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private static HostTensor raw(String name, ElementType type, byte[] bytes, long... shape) {
        float[] zeros = new float[bytes.length / type.bytes()];
        HostTensor tensor = Tensors.of(name, type, zeros, shape);
        tensor.data().copyFrom(java.lang.foreign.MemorySegment.ofArray(bytes));
        return tensor;
    }

    private static HostTensor scales(ElementType type, int groups) {
        float[] values = Tensors.random(5, groups * N);
        for (int i = 0; i < values.length; i++) {
            values[i] = 0.01f + 0.01f * Math.abs(values[i]);
        }
        return Tensors.of("scales", type, values, groups, N);
    }

    /** Random blocks with the halves at their start replaced by small numbers. */
    private static byte[] blocks(int blockBytes, int blockInputs, int halves) {
        byte[] blocks = bytes(N * K / blockInputs * blockBytes, 9);
        ByteBuffer buffer = ByteBuffer.wrap(blocks).order(ByteOrder.LITTLE_ENDIAN);
        for (int at = 0; at < blocks.length; at += blockBytes) {
            for (int i = 0; i < halves; i++) {
                buffer.putShort(at + 2 * i, HalfFloats.toFloat16(0.001f * (1 + at % 7 + i)));
            }
        }
        return blocks;
    }

    private HostTensor[] weight(String format) {
        byte[] codes = bytes(K * N, 1);
        for (int i = 0; i < codes.length; i++) {
            codes[i] &= 15;
        }
        HostTensor words = raw("qweight", ElementType.I32, bytes(K * N / 2, 2), K / 8, N);
        return switch (format) {
            case "plain" ->
                    new HostTensor[] {
                        raw("codes", ElementType.U8, codes, K, N),
                        scales(ElementType.BF16, 8),
                        Tensors.of("zeros", ElementType.BF16, Tensors.random(6, 8 * N), 8, N)
                    };
            case "plain8" ->
                    new HostTensor[] {
                        raw("codes", ElementType.U8, bytes(K * N, 3), K, N),
                        scales(ElementType.F32, 2),
                        raw("zeros", ElementType.U8, bytes(2 * N, 4), 2, N)
                    };
            case "gptq" -> new HostTensor[] {words, scales(ElementType.F16, 4)};
            case "gptq8" ->
                    new HostTensor[] {
                        raw("qweight", ElementType.I32, bytes(K * N, 5), K / 4, N),
                        raw("qzeros", ElementType.I32, bytes(2 * N, 6), 2, N / 4),
                        scales(ElementType.F16, 2)
                    };
            case "awq" ->
                    new HostTensor[] {
                        raw("qweight", ElementType.I32, bytes(K * N / 2, 7), K, N / 8),
                        raw("qzeros", ElementType.I32, bytes(N, 8), 2, N / 8),
                        scales(ElementType.F16, 2)
                    };
            case "q4_0" -> gguf(18, 32, 1);
            case "q4_1" -> gguf(20, 32, 2);
            case "q8_0" -> gguf(34, 32, 1);
            default -> gguf(144, 256, 2);
        };
    }

    private static HostTensor[] gguf(int blockBytes, int blockInputs, int halves) {
        byte[] data = blocks(blockBytes, blockInputs, halves);
        return new HostTensor[] {raw("blocks", ElementType.U8, data, N, data.length / N)};
    }

    private static List<Object> flags(String format) {
        return switch (format) {
            case "plain" -> List.of("--format", "plain");
            case "plain8" -> List.of("--format", "plain", "--weight-type", "int8");
            case "gptq8" -> List.of("--format", "gptq", "--bits", 8);
            case "gptq", "awq" -> List.of("--format", format);
            default -> List.of("--format", "gguf", "--gguf-type", format);
        };
    }

    @ParameterizedTest
    @CsvSource({
        "cpu, plain", "cpu, plain8", "cpu, gptq", "cpu, gptq8", "cpu, awq", "cpu, q4_0",
        "cpu, q4_1", "cpu, q8_0", "cpu, q4_k", "sim, plain", "sim, plain8", "sim, gptq",
        "sim, gptq8", "sim, awq", "sim, q4_0", "sim, q4_1", "sim, q8_0", "sim, q4_k"
    })
    void test_linear_takes_every_format(String device, String format) throws IOException {
        DeviceKind kind = DeviceKind.valueOf(device.toUpperCase(java.util.Locale.ROOT));
        String reason = Tarpon.unavailableReason(kind).orElse("");
        assumeTrue(reason.isEmpty(), () -> "device " + device + ": " + reason);
        HostTensor x = Tensors.of("x", ElementType.F16, Tensors.random(11, M * K), M, K);
        HostTensor bias = Tensors.of("bias", ElementType.F16, Tensors.random(12, N), N);
        HostTensor residual =
                Tensors.of("residual", ElementType.F16, Tensors.random(13, M * N), M, N);
        HostTensor[] weight = weight(format);
        Path alone = Tensors.write(folder.resolve("weight.safetensors"), weight);
        List<HostTensor> all = new ArrayList<>(List.of(x, bias, residual));
        all.addAll(Arrays.asList(weight));
        Path in = Tensors.write(folder.resolve("in.safetensors"), all.toArray(new HostTensor[0]));
        Object[] more = flags(format).subList(2, flags(format).size()).toArray();
        Path plain = unpacked(flags(format).get(1).toString(), alone, more);
        float[] w = Tensors.read(plain, "dequantized").toFloats();

        Path out = folder.resolve("out.safetensors");
        byte[] first = null;
        for (Path weights : new Path[] {in, alone}) {
            var arguments = new ArrayList<Object>(List.of("op", "linear", "--device", device));
            arguments.addAll(List.of("--in", in, "--out", out, "--mode", "fast"));
            arguments.addAll(List.of("--weights", weights));
            arguments.addAll(flags(format));
            CliRun run = CliRun.of(arguments.toArray());
            assumeTrue(!run.err().contains("no kernel"), () -> device + ": " + run.err());
            run.succeeds();
            HostTensor y = Tensors.read(out, "y");
            float[] expected = product(x.toFloats(), w, bias.toFloats(), residual.toFloats());
            double error = Reference.meanRelativeError(y.toFloats(), expected);
            assertTrue(error <= MEAN_RELATIVE_ERROR, "mean relative error " + error);
            if (first == null) {
                first = Tensors.bytes(y);
            }
            assertArrayEquals(first, Tensors.bytes(y), "the weight in a file of its own");
        }
    }

    private static float[] product(float[] x, float[] w, float[] bias, float[] residual) {
        float[] y = new float[M * N];
        for (int m = 0; m < M; m++) {
            for (int n = 0; n < N; n++) {
                double sum = bias[n] + (double) residual[m * N + n];
                for (int k = 0; k < K; k++) {
                    sum += (double) x[m * K + k] * w[k * N + n];
                }
                y[m * N + n] = (float) sum;
            }
        }
        return y;
    }

    // ---- Files of GGUF, pruning, mistakes

    private Path ggufFile() throws IOException {
        byte[] bytes =
                new GgufBytes()
                        .text("general.architecture", "llama")
                        .tensor("a.weight", 2, blocks(18, 32, 1), K, N)
                        .tensor("b.weight", 12, blocks(144, 256, 2), K, N)
                        .tensor("norm", 0, new byte[4 * N], N)
                        .build();
        return Files.write(folder.resolve("model.gguf"), bytes);
    }

    @Test
    void test_gguf_files_are_read_like_their_blocks() throws IOException {
        Path file = ggufFile();
        Path blocks = Tensors.write(folder.resolve("blocks.safetensors"), weight("q4_k"));
        Path fromFile = folder.resolve("from-file.safetensors");
        CliRun.of("op", "linear-unpack", "--in", file, "--out", fromFile, "--tensor", "b.weight")
                .succeeds();
        Path fromBlocks = unpacked("gguf", blocks, "--gguf-type", "q4_k");
        for (String name : new String[] {"codes", "scales", "zeros", "dequantized"}) {
            assertSame(Tensors.read(fromBlocks, name), Tensors.read(fromFile, name));
        }
        Path packed = folder.resolve("packed.safetensors");
        CliRun.of("op", "linear-pack", "--in", file, "--out", packed, "--tensor", "a.weight")
                .succeeds();
        CliRun.of("op", "linear-pack", "--in", file, "--out", packed, "--tensor", "b.weight")
                .fails(ExitCode.BAD_INPUT, "INT4 FLOAT");
        CliRun.of("op", "linear-unpack", "--in", file, "--out", packed)
                .fails(ExitCode.BAD_INPUT, "--tensor", "a.weight, b.weight");
        CliRun.of("op", "linear-unpack", "--in", file, "--out", packed, "--tensor", "norm")
                .fails(ExitCode.BAD_INPUT, "'norm' is F32 [64]");
        CliRun.of("op", "linear-unpack", "--in", file, "--out", packed, "--tensor", "c")
                .fails(ExitCode.BAD_INPUT, "'c' is missing");
    }

    @Test
    void test_pruned_weights_have_the_pattern() throws IOException {
        HostTensor weight = Tensors.of("weight", ElementType.F32, Tensors.random(21, N * K), N, K);
        Path in = Tensors.write(folder.resolve("in.safetensors"), weight);
        Path out = folder.resolve("out.safetensors");
        CliRun.of("op", "linear-pack", "--in", in, "--out", out, "--prune").succeeds();
        byte[] codes = Tensors.bytes(Tensors.read(out, "codes"));
        for (int k = 0; k < K; k += 4) {
            for (int n = 0; n < N; n++) {
                int nonzero = 0;
                for (int i = 0; i < 4; i++) {
                    nonzero += codes[(k + i) * N + n] == 8 ? 0 : 1;
                }
                assertTrue(nonzero <= 2, "inputs %d.. of column %d".formatted(k, n));
            }
        }
        Path codesOnly =
                Tensors.write(
                        folder.resolve("codes.safetensors"),
                        Tensors.read(out, "codes"),
                        Tensors.read(out, "scales"));
        CliRun.of("op", "linear-pack", "--in", codesOnly, "--out", out, "--prune")
                .fails(ExitCode.BAD_INPUT, "quantised already");
    }

    @Test
    void test_mistakes_are_named() throws IOException {
        Path out = folder.resolve("out.safetensors");
        Path words = Tensors.write(folder.resolve("gptq.safetensors"), weight("gptq"));
        CliRun.of("op", "linear-unpack", "--format", "tar", "--in", words, "--out", out)
                .fails(ExitCode.USAGE, "tar");
        CliRun.of("op", "linear-unpack", "--format", "awq", "--in", words, "--out", out)
                .fails(ExitCode.BAD_INPUT, "scales", "n 512");
        CliRun.of("op", "linear-unpack", "--format", "gguf", "--in", words, "--out", out)
                .fails(ExitCode.BAD_INPUT, "'blocks' is missing");
        CliRun.of(
                        "op",
                        "linear-unpack",
                        "--format",
                        "gptq",
                        "--gguf-type",
                        "q4_0",
                        "--in",
                        words,
                        "--out",
                        out)
                .fails(ExitCode.USAGE, "--gguf-type");
        CliRun.of(
                        "op",
                        "linear-unpack",
                        "--format",
                        "gptq",
                        "--group",
                        128,
                        "--in",
                        words,
                        "--out",
                        out)
                .fails(ExitCode.BAD_INPUT, "scales_bytes");
        CliRun.of(
                        "op",
                        "linear-unpack",
                        "--format",
                        "awq",
                        "--bits",
                        8,
                        "--in",
                        words,
                        "--out",
                        out)
                .fails(ExitCode.USAGE, "--bits 8");
        HostTensor[] plain = weight("plain8");
        Path wide = Tensors.write(folder.resolve("plain.safetensors"), plain);
        CliRun.of("op", "linear-unpack", "--format", "plain", "--in", wide, "--out", out)
                .fails(ExitCode.BAD_INPUT, "codes[", "a 4-bit code is 0..15");
        CliRun.of("op", "linear", "--sparsity", "1:2", "--in", words, "--out", out)
                .fails(ExitCode.USAGE, "1:2");
    }
}
