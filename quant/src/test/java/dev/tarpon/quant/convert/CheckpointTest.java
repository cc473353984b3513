package dev.tarpon.quant.convert;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.DType;
import dev.tarpon.GgufType;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.WeightFormat;
import dev.tarpon.WeightType;
import dev.tarpon.ZeroType;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.quant.TestPaths;
import dev.tarpon.quant.format.GgufBytes;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.Random;
import java.util.regex.Pattern;

/**
 * GPTQ and AWQ folders and GGUF files through the converter: layers keep their weights bit for bit.
 */
class CheckpointTest {
    @TempDir Path folder;

    private Path convert(Path in) throws IOException {
        Path out = folder.resolve("out.safetensors");
        try (ModelSource source =
                ModelSource.open(
                        in, Optional.empty(), Pattern.compile(ModelSource.DEFAULT_EXCLUDE))) {
            new ModelQuantizer(source, 128).write(in.toString(), out, name -> {});
        }
        return out;
    }

    private static HostTensor tensor(SafetensorsFile file, String name) {
        return file.find(name).orElseThrow(() -> new AssertionError("no tensor " + name));
    }

    /** The weight of a converted layer as floats, by its metadata. */
    private static float[] dequantize(SafetensorsFile file, String layer) {
        String[] shape =
                file.metadata().get(layer + ".shape").replaceAll("[\\[\\] ]", "").split(",");
        long n = Long.parseLong(shape[0]);
        long k = Long.parseLong(shape[1]);
        String[] format = file.metadata().get(layer + ".format").split(" ");
        int group = Integer.parseInt(format[4]);
        if (format[6].equals("MARLIN")) {
            return QuantizedWeights.fromMarlin(
                            tensor(file, layer + ".qweight").data(),
                            tensor(file, layer + ".scales").data(),
                            n,
                            k,
                            group)
                    .dequantize();
        }
        return QuantizedWeights.of(
                        tensor(file, layer + ".codes").data(),
                        tensor(file, layer + ".scales").data(),
                        file.find(layer + ".zeros").map(HostTensor::data).orElse(null),
                        file.find(layer + ".g_idx").map(HostTensor::data).orElse(null),
                        n,
                        k,
                        new WeightFormat(
                                WeightType.valueOf(format[0]),
                                ZeroType.valueOf(format[1]),
                                DType.valueOf(format[2]),
                                group))
                .dequantize();
    }

    // ---- GPTQ and AWQ

    private Path checkpoint(String golden, String config) throws IOException {
        Path model = Files.createDirectories(folder.resolve("model"));
        Path file = TestPaths.golden(golden + ".safetensors");
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            // In two shards, as large checkpoints are.
            var first = new SafetensorsWriter();
            var second = new SafetensorsWriter();
            for (String part : new String[] {"qweight", "qzeros", "scales", "g_idx"}) {
                var shard = part.equals("qweight") ? first : second;
                source.find(part).ifPresent(t -> shard.add(t.renamed("model.layers.0.up." + part)));
            }
            HostTensor norm = source.find("scales").orElseThrow().renamed("model.norm.weight");
            first.add(norm).write(model.resolve("model-00001-of-00002.safetensors"));
            second.write(model.resolve("model-00002-of-00002.safetensors"));
        }
        Files.writeString(model.resolve("config.json"), config);
        return model;
    }

    @ParameterizedTest
    @CsvSource({
        "gptq_sym_k256_n512_g128, gptq, MARLIN",
        "gptq_asym_k256_n512_g128, gptq, plain",
        "gptq_actorder_k256_n512_g128, gptq, plain",
        "awq_gemm_k256_n512_g128, awq, plain"
    })
    void test_checkpoint_folders_keep_their_weights(String golden, String method, String order)
            throws IOException {
        String config =
                """
                {"model_type": "llama", "quantization_config":
                  {"quant_method": "%s", "bits": 4, "group_size": 128, "desc_act": true}}\
                """
                        .formatted(method);
        Path out = convert(checkpoint(golden, config));
        try (SafetensorsFile file = SafetensorsFile.open(out);
                SafetensorsFile source =
                        SafetensorsFile.open(TestPaths.golden(golden + ".safetensors"))) {
            String layer = "model.layers.0.up";
            assertTrue(file.metadata().get(layer + ".format").endsWith(order + " order"));
            float[] expected = tensor(source, "w_dequant_fp16").toFloats();
            float[] actual = dequantize(file, layer);
            for (int i = 0; i < expected.length; i++) {
                float rounded = Float.float16ToFloat(Float.floatToFloat16(actual[i]));
                assertEquals(expected[i], rounded, "weight " + i);
            }
            assertTrue(file.find("model.norm.weight").isPresent());
            assertEquals(
                    golden.startsWith("gptq_act"),
                    file.find(layer + ".g_idx").isPresent(),
                    "g_idx");
        }
    }

    private void assertRefused(Path in, String... parts) {
        String message = assertThrows(FormatException.class, () -> convert(in)).getMessage();
        for (String part : parts) {
            assertTrue(message.contains(part), () -> "no \"" + part + "\" in: " + message);
        }
    }

    @Test
    void test_checkpoint_configs_that_are_not_supported() throws IOException {
        Path model = Files.createDirectories(folder.resolve("bare"));
        assertRefused(model, "no *.safetensors");
        new SafetensorsWriter()
                .add(new HostTensor("x.qweight", ElementType.I32, new long[] {1, 8}, words(8)))
                .write(model.resolve("model.safetensors"));
        assertRefused(model, "quantize_config.json");
        Path config = model.resolve("quantize_config.json");
        String[][] cases = {
            {"{", "not JSON"},
            {"[]", "not a JSON object"},
            {"{\"bits\": 3, \"group_size\": 128}", "bits", "'3'", "4 or 8"},
            {"{\"bits\": 4}", "group_size"},
            {"{\"bits\": 4, \"group_size\": \"x\"}", "group_size", "x"},
            {"{\"bits\": 4, \"group_size\": 128, \"quant_method\": \"hqq\"}", "'hqq'"},
            {
                "{\"bits\": 4, \"group_size\": 128, \"checkpoint_format\": \"marlin\"}",
                "checkpoint_format",
                "'marlin'"
            },
            {"{\"w_bit\": 4, \"q_group_size\": 128, \"version\": \"GEMV\"}", "'GEMV'"},
            {"{\"bits\": 4, \"group_size\": 128}", "'x'", "no scales"}
        };
        for (String[] c : cases) {
            Files.writeString(config, c[0]);
            assertRefused(model, java.util.Arrays.copyOfRange(c, 1, c.length));
        }
    }

    private static MemorySegment words(int count) {
        return Arena.ofAuto().allocate(4L * count, Integer.BYTES);
    }

    // ---- GGUF

    private static byte[] random(int length, long seed) {
        byte[] bytes = new byte[length];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    /** Blocks of a layer 64 x 256, with small numbers for the halves at their start. */
    private static byte[] blocks(GgufType type) {
        byte[] bytes = random(Math.toIntExact(type.bytes(64, 256)), 3);
        for (int at = 0; at < bytes.length; at += type.blockBytes()) {
            bytes[at + 1] = 0x14; // a binary16 near 0.001
            if (type.format().zeroType() == ZeroType.FLOAT) {
                bytes[at + 3] = 0x18;
            }
        }
        return bytes;
    }

    @Test
    void test_gguf_layers_keep_their_weights() throws IOException {
        byte[] weight = new byte[4 * 64 * 256];
        byte[] bytes =
                new GgufBytes()
                        .text("general.architecture", "llama")
                        .tensor("token_embd.weight", 2, blocks(GgufType.Q4_0), 256, 64)
                        .tensor("blk.0.attn_q.weight", 2, blocks(GgufType.Q4_0), 256, 64)
                        .tensor("blk.0.attn_k.weight", 3, blocks(GgufType.Q4_1), 256, 64)
                        .tensor("blk.0.attn_v.weight", 8, blocks(GgufType.Q8_0), 256, 64)
                        .tensor("blk.0.ffn_up.weight", 12, blocks(GgufType.Q4_K), 256, 64)
                        .tensor("blk.0.ffn_down.weight", 14, random(64 * 210, 4), 256, 64)
                        .tensor("blk.0.attn_output.weight", 0, weight, 256, 64)
                        .tensor("blk.0.attn_norm.weight", 0, random(4, 5), 1)
                        .build();
        Path out = convert(Files.write(folder.resolve("model.gguf"), bytes));
        try (SafetensorsFile file = SafetensorsFile.open(out)) {
            assertEquals("llama", file.metadata().get("general.architecture"));
            String[] layers = {"attn_q", "attn_k", "attn_v", "ffn_up"};
            for (int i = 0; i < layers.length; i++) {
                GgufType type = GgufType.values()[i];
                float[] expected =
                        QuantizedWeights.fromGguf(
                                        MemorySegment.ofArray(blocks(type)), type, 64, 256)
                                .dequantize();
                assertArrayEquals(expected, dequantize(file, "blk.0." + layers[i]), type.name());
            }
            assertTrue(file.find("blk.0.attn_q.qweight").isPresent(), "Q4_0 in MARLIN order");
            assertTrue(file.find("blk.0.attn_output.qweight").isPresent(), "F32 is rounded");
            HostTensor foreign = tensor(file, "blk.0.ffn_down.weight");
            assertArrayEquals(random(64 * 210, 4), foreign.data().toArray(ValueLayout.JAVA_BYTE));
            assertEquals("Q6_K [64, 256]", file.metadata().get("blk.0.ffn_down.weight.gguf"));
            assertEquals("Q4_0 [64, 256]", file.metadata().get("token_embd.weight.gguf"));
            assertTrue(file.find("blk.0.attn_norm.weight").isPresent());
        }
    }
}
