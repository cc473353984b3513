package dev.tarpon.quant.llama;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import dev.tarpon.format.AtomicFile;
import dev.tarpon.format.FormatException;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Hugging Face's config.json of a Llama model. Whatever would make the model compute something else
 * (biases, scaled rotary positions, another activation) is refused, not ignored.
 */
final class LlamaConfigFile {
    private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();

    // What transformers' LlamaConfig takes where a file says nothing.
    private static final double DEFAULT_ROPE_THETA = 10000;
    private static final double DEFAULT_RMS_NORM_EPSILON = 1e-6;

    private final String source;
    private final JsonObject json;

    private LlamaConfigFile(String source, JsonObject json) {
        this.source = source;
        this.json = json;
    }

    /**
     * Reads a configuration.
     *
     * @throws FormatException naming the entry that is missing, malformed or not supported
     * @throws IOException if the file cannot be read
     */
    static LlamaConfig read(Path path) throws IOException {
        String source = path.toString();
        JsonElement root;
        try {
            root = JsonParser.parseString(Files.readString(path));
        } catch (JsonParseException e) {
            throw new FormatException(source, "is not JSON: " + e.getMessage());
        }
        if (!root.isJsonObject()) {
            throw new FormatException(source, "is not a JSON object");
        }
        return new LlamaConfigFile(source, root.getAsJsonObject()).config();
    }

    private LlamaConfig config() throws FormatException {
        requireText("model_type", "llama", null);
        requireText("hidden_act", "silu", "silu");
        requireFalse("attention_bias");
        requireFalse("mlp_bias");
        int hidden = integer("hidden_size", null);
        int heads = integer("num_attention_heads", null);
        try {
            return new LlamaConfig(
                    integer("vocab_size", null),
                    hidden,
                    integer("intermediate_size", null),
                    integer("num_hidden_layers", null),
                    heads,
                    integer("num_key_value_heads", heads),
                    integer("head_dim", heads < 1 ? null : Integer.valueOf(hidden / heads)),
                    integer("max_position_embeddings", null),
                    ropeTheta(),
                    number(json, "rms_norm_eps", DEFAULT_RMS_NORM_EPSILON),
                    bool("tie_word_embeddings"));
        } catch (IllegalArgumentException e) {
            throw new FormatException(source, e.getMessage());
        }
    }

    /** At the top, or in rope_parameters as newer versions of transformers write it. */
    private double ropeTheta() throws FormatException {
        for (String name : new String[] {"rope_parameters", "rope_scaling"}) {
            JsonElement entry = entry(name);
            if (entry == null) {
                continue;
            }
            if (!entry.isJsonObject()) {
                throw wrong(name, entry, "an object");
            }
            JsonObject rope = entry.getAsJsonObject();
            JsonElement type = rope.has("rope_type") ? rope.get("rope_type") : rope.get("type");
            if (type != null && !(type.isJsonPrimitive() && type.getAsString().equals("default"))) {
                throw wrong(name + ".rope_type", type, "default");
            }
            if (rope.has("rope_theta")) {
                return number(rope, "rope_theta", DEFAULT_ROPE_THETA);
            }
        }
        return number(json, "rope_theta", DEFAULT_ROPE_THETA);
    }

    private JsonElement entry(String name) {
        JsonElement entry = json.get(name);
        return entry == null || entry.isJsonNull() ? null : entry;
    }

    private int integer(String name, Integer fallback) throws FormatException {
        JsonElement entry = entry(name);
        if (entry == null) {
            if (fallback == null) {
                throw new FormatException(source, "has no " + name);
            }
            return fallback;
        }
        try {
            return new BigDecimal(entry.getAsJsonPrimitive().getAsString()).intValueExact();
        } catch (IllegalStateException | ArithmeticException | NumberFormatException e) {
            throw wrong(name, entry, "an integer");
        }
    }

    private double number(JsonObject object, String name, double fallback) throws FormatException {
        JsonElement entry = object.get(name);
        if (entry == null || entry.isJsonNull()) {
            return fallback;
        }
        if (!entry.isJsonPrimitive() || !entry.getAsJsonPrimitive().isNumber()) {
            throw wrong(name, entry, "a number");
        }
        return entry.getAsDouble();
    }

    private boolean bool(String name) throws FormatException {
        JsonElement entry = entry(name);
        if (entry == null) {
            return false;
        }
        if (!entry.isJsonPrimitive() || !entry.getAsJsonPrimitive().isBoolean()) {
            throw wrong(name, entry, "true or false");
        }
        return entry.getAsBoolean();
    }

    private void requireFalse(String name) throws FormatException {
        if (bool(name)) {
            throw wrong(name, entry(name), "false");
        }
    }

    private void requireText(String name, String expected, String fallback) throws FormatException {
        JsonElement entry = entry(name);
        if (entry == null ? !expected.equals(fallback) : !isText(entry, expected)) {
            throw wrong(name, entry, "\"" + expected + "\"");
        }
    }

    private static boolean isText(JsonElement entry, String expected) {
        return entry.isJsonPrimitive() && entry.getAsString().equals(expected);
    }

    private FormatException wrong(String name, JsonElement entry, String expected) {
        return new FormatException(
                source, "%s is %s; expected %s".formatted(name, entry, expected));
    }

    /** Writes a configuration that transformers' AutoConfig reads. */
    static void write(LlamaConfig config, Path path) throws IOException {
        var architectures = new JsonArray();
        architectures.add("LlamaForCausalLM");
        var json = new JsonObject();
        json.add("architectures", architectures);
        json.addProperty("model_type", "llama");
        json.addProperty("vocab_size", config.vocabulary());
        json.addProperty("hidden_size", config.hidden());
        json.addProperty("intermediate_size", config.intermediate());
        json.addProperty("num_hidden_layers", config.layers());
        json.addProperty("num_attention_heads", config.queryHeads());
        json.addProperty("num_key_value_heads", config.keyValueHeads());
        json.addProperty("head_dim", config.headDim());
        json.addProperty("max_position_embeddings", config.positions());
        json.addProperty("hidden_act", "silu");
        json.addProperty("rope_theta", config.ropeTheta());
        json.addProperty("rms_norm_eps", config.rmsNormEpsilon());
        json.addProperty("attention_bias", false);
        json.addProperty("mlp_bias", false);
        json.addProperty("tie_word_embeddings", config.tiedEmbeddings());
        json.addProperty("torch_dtype", "float32");
        ByteBuffer text = StandardCharsets.UTF_8.encode(GSON.toJson(json) + "\n");
        AtomicFile.write(
                path,
                channel -> {
                    while (text.hasRemaining()) {
                        channel.write(text);
                    }
                });
    }
}
