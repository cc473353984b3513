package dev.tarpon.quant.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;
import dev.tarpon.format.Shapes;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

/** Hugging Face's layout, there and back, and what is refused. */
class LlamaWeightsTest {
    @TempDir Path folder;

    private static LlamaConfig config(boolean tied) {
        return new LlamaConfig(256, 32, 96, 2, 4, 2, 16, 64, 50000, 1e-5, tied);
    }

    private static LlamaWeights random(LlamaConfig config) {
        var random = new Random(1);
        Map<String, float[]> parameters = new LinkedHashMap<>();
        config.parameterShapes()
                .forEach(
                        (name, shape) -> {
                            float[] values = new float[(int) Shapes.elements(shape)];
                            for (int i = 0; i < values.length; i++) {
                                values[i] = (float) random.nextGaussian();
                            }
                            parameters.put(name, values);
                        });
        return new LlamaWeights(config, parameters);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void test_llama_weights_survive_the_round_trip(boolean tied) throws IOException {
        LlamaWeights saved = random(config(tied));
        saved.save(folder.resolve("new/model"));
        LlamaWeights loaded = LlamaWeights.load(folder.resolve("new/model"));
        assertEquals(config(tied), loaded.config());
        for (String name : saved.config().parameterShapes().keySet()) {
            assertArrayEquals(saved.values(name), loaded.values(name), name);
        }
        assertEquals(tied ? 20 : 21, loaded.config().parameterShapes().size());
        assertEquals(tied ? LlamaNames.EMBEDDING : LlamaNames.OUTPUT, loaded.outputName());
    }

    @Test
    void test_llama_names_and_shapes_are_those_of_hugging_face() throws IOException {
        random(config(false)).save(folder);
        try (SafetensorsFile file = SafetensorsFile.open(folder.resolve("model.safetensors"))) {
            Map<String, String> expected =
                    Map.of(
                            "model.embed_tokens.weight", "[256, 32]",
                            "model.layers.0.input_layernorm.weight", "[32]",
                            "model.layers.0.self_attn.q_proj.weight", "[64, 32]",
                            "model.layers.1.self_attn.k_proj.weight", "[32, 32]",
                            "model.layers.1.self_attn.v_proj.weight", "[32, 32]",
                            "model.layers.1.self_attn.o_proj.weight", "[32, 64]",
                            "model.layers.1.mlp.gate_proj.weight", "[96, 32]",
                            "model.layers.1.mlp.down_proj.weight", "[32, 96]",
                            "model.norm.weight", "[32]",
                            "lm_head.weight", "[256, 32]");
            expected.forEach(
                    (name, shape) ->
                            assertEquals(
                                    "F32 " + shape,
                                    file.find(name).orElseThrow().description(),
                                    name));
        }
    }

    @Test
    void test_llama_matrix_is_the_transpose_of_the_file() {
        LlamaWeights weights = random(config(false));
        var matrix = weights.matrix(LlamaNames.DOWN.of(1));
        assertEquals(96, matrix.inFeatures());
        assertEquals(32, matrix.outFeatures());
        assertEquals(
                weights.values(LlamaNames.DOWN.of(1))[5 * 96 + 7], matrix.values()[7 * 32 + 5]);
        assertThrows(IllegalArgumentException.class, () -> weights.matrix(LlamaNames.FINAL_NORM));
        assertThrows(IllegalArgumentException.class, () -> weights.values("lm_head"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "\"model_type\": \"llama\"|\"model_type\": \"gpt2\"|model_type is \"gpt2\"",
                "\"attention_bias\": false|\"attention_bias\": true|attention_bias is true",
                "\"hidden_act\": \"silu\"|\"hidden_act\": \"gelu\"|hidden_act is \"gelu\"",
                "\"hidden_size\": 32|\"hidden_size\": 32.5|hidden_size is 32.5",
                "\"hidden_size\": 32|\"hidden_size\": -4|hidden_size -4",
                "\"hidden_size\": 32|\"hidden_size\": [1]|hidden_size is [1]",
                "\"vocab_size\": 256,|''|has no vocab_size",
                "\"num_key_value_heads\": 2|\"num_key_value_heads\": 3|is not a multiple",
                "\"rope_theta\": 50000.0|\"rope_theta\": 0|rope_theta 0.0",
                "\"rope_theta\": 50000.0|\"rope_scaling\": {\"rope_type\": \"yarn\"}|\"yarn\"",
                "\"rms_norm_eps\": 1.0E-5|\"rms_norm_eps\": \"small\"|rms_norm_eps is \"small\"",
                "{|[|is not JSON",
            })
    void test_llama_config_refuses(String old, String changed, String message) throws IOException {
        random(config(false)).save(folder);
        Path path = folder.resolve("config.json");
        String text = Files.readString(path);
        assertTrue(text.contains(old), text);
        Files.writeString(path, text.replace(old, changed));
        var failure = assertThrows(FormatException.class, () -> LlamaWeights.load(folder));
        assertTrue(failure.getMessage().contains(message), failure.getMessage());
        assertTrue(failure.getMessage().contains(path.toString()), failure.getMessage());
    }

    @Test
    void test_llama_config_takes_defaults_and_the_newer_place_of_rope_theta() throws IOException {
        random(config(false)).save(folder);
        Path path = folder.resolve("config.json");
        String text = Files.readString(path).replace("\"rms_norm_eps\": 1.0E-5,", "");
        Files.writeString(
                path,
                text.replace(
                        "\"rope_theta\": 50000.0",
                        "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}"));
        LlamaConfig config = LlamaWeights.load(folder).config();
        assertEquals(7, config.ropeTheta());
        assertEquals(1e-6, config.rmsNormEpsilon());
        Files.writeString(path, text.replace("\"rope_theta\": 50000.0,", ""));
        assertEquals(10000, LlamaWeights.load(folder).config().ropeTheta());
    }

    @Test
    void test_llama_weights_name_the_parameter_that_is_wrong() throws IOException {
        LlamaConfig config = config(false);
        random(config).save(folder);
        String name = LlamaNames.GATE.of(1);
        write(config, name, null);
        refuses(name, "is missing");
        write(config, name, new long[] {32, 96});
        refuses(name, "F32 [32, 96]", "[96, 32]");
        Files.move(
                folder.resolve("model.safetensors"),
                folder.resolve("model.safetensors.index.json"));
        refuses("several files");
        assertThrows(
                IllegalArgumentException.class,
                () -> new LlamaWeights(config, new LinkedHashMap<>()));
    }

    /** All parameters of zeros, but one missing or of another shape. */
    private void write(LlamaConfig config, String changed, long[] shape) throws IOException {
        var writer = new SafetensorsWriter();
        try (Arena arena = Arena.ofConfined()) {
            for (var entry : config.parameterShapes().entrySet()) {
                boolean other = entry.getKey().equals(changed);
                long[] its = other ? shape : entry.getValue();
                if (its != null) {
                    long bytes = Shapes.elements(its) * Float.BYTES;
                    writer.add(
                            new HostTensor(
                                    entry.getKey(), ElementType.F32, its, arena.allocate(bytes)));
                }
            }
            writer.write(folder.resolve("model.safetensors"));
        }
    }

    private void refuses(String... parts) {
        var failure = assertThrows(FormatException.class, () -> LlamaWeights.load(folder));
        for (String part : parts) {
            assertTrue(failure.getMessage().contains(part), failure.getMessage());
        }
    }
}
