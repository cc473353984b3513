package dev.tarpon.quant.convert;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import dev.tarpon.WeightType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.Names;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * How the layers of a checkpoint folder are quantised, from quantization_config in config.json, or
 * from quantize_config.json (or quant_config.json) as older tools write it.
 *
 * @param source the file that says so
 * @param method GPTQ or AWQ
 * @param bits 4 or 8; 4 of AWQ
 * @param groupSize input features that share a scale, or -1
 * @param v2 whether GPTQ's zero points are stored as they are
 */
record CheckpointConfig(String source, Method method, int bits, int groupSize, boolean v2) {
    enum Method {
        GPTQ,
        AWQ
    }

    /** No configuration comes near; it bounds what a wrong file can cost. */
    private static final long MAX_BYTES = 16 << 20;

    private static final String[] FILES = {
        "config.json", "quantize_config.json", "quant_config.json"
    };

    /**
     * Reads the configuration of a folder.
     *
     * @throws FormatException if there is none, or one of a kind that is not known
     */
    static CheckpointConfig read(Path folder) throws IOException {
        for (String name : FILES) {
            Path path = folder.resolve(name);
            if (!Files.isRegularFile(path)) {
                continue;
            }
            JsonObject json = parse(path);
            if (name.equals("config.json")) {
                JsonElement nested = json.get("quantization_config");
                if (nested == null || !nested.isJsonObject()) {
                    continue;
                }
                json = nested.getAsJsonObject();
            }
            return of(path.toString(), json);
        }
        throw new FormatException(
                folder.toString(),
                "has neither quantization_config in config.json nor quantize_config.json: no GPTQ"
                        + " or AWQ checkpoint");
    }

    private static JsonObject parse(Path path) throws IOException {
        long bytes = Files.size(path);
        if (bytes > MAX_BYTES) {
            throw new FormatException(
                    path.toString(), "has %d bytes; the limit is %d".formatted(bytes, MAX_BYTES));
        }
        try {
            JsonElement root = JsonParser.parseString(Files.readString(path));
            if (root.isJsonObject()) {
                return root.getAsJsonObject();
            }
        } catch (JsonParseException | java.nio.charset.CharacterCodingException e) {
            throw new FormatException(path.toString(), "is not JSON: " + e.getMessage(), e);
        }
        throw new FormatException(path.toString(), "is not a JSON object");
    }

    private static CheckpointConfig of(String source, JsonObject json) throws FormatException {
        // Older GPTQ tools name no method; AWQ's own file has w_bit and q_group_size.
        String method = text(source, json, "quant_method", json.has("w_bit") ? "awq" : "gptq");
        int bits = integer(source, json, json.has("w_bit") ? "w_bit" : "bits");
        int group = integer(source, json, json.has("q_group_size") ? "q_group_size" : "group_size");
        return switch (method) {
            case "gptq" -> {
                String format = text(source, json, "checkpoint_format", "gptq");
                require(source, "bits", bits, bits == 4 || bits == 8, "4 or 8");
                require(
                        source,
                        "checkpoint_format",
                        format,
                        format.equals("gptq") || format.equals("gptq_v2"),
                        "gptq or gptq_v2");
                yield new CheckpointConfig(
                        source, Method.GPTQ, bits, group, format.equals("gptq_v2"));
            }
            case "awq" -> {
                String version = text(source, json, "version", "gemm");
                require(source, "bits", bits, bits == 4, "4");
                require(source, "version", version, version.equalsIgnoreCase("gemm"), "gemm");
                yield new CheckpointConfig(source, Method.AWQ, bits, group, false);
            }
            default ->
                    throw new FormatException(
                            source,
                            "quant_method is %s; gptq and awq are supported"
                                    .formatted(Names.quote(method)));
        };
    }

    private static void require(
            String source, String key, Object value, boolean holds, String expected)
            throws FormatException {
        if (!holds) {
            throw new FormatException(
                    source,
                    "%s is %s; supported: %s"
                            .formatted(key, Names.quote(value.toString()), expected));
        }
    }

    private static String text(String source, JsonObject json, String key, String absent)
            throws FormatException {
        JsonElement value = json.get(key);
        if (value == null || value.isJsonNull()) {
            return absent;
        }
        if (!value.isJsonPrimitive()) {
            throw new FormatException(source, "%s is %s; expected a text".formatted(key, value));
        }
        return value.getAsString();
    }

    private static int integer(String source, JsonObject json, String key) throws FormatException {
        String value = text(source, json, key, null);
        try {
            return Integer.parseInt(value);
        } catch (NumberFormatException e) {
            throw new FormatException(
                    source, "%s is %s; expected an integer".formatted(key, value), e);
        }
    }

    WeightType weightType() {
        return bits == 4 ? WeightType.INT4 : WeightType.INT8;
    }
}
