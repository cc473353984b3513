package dev.tarpon.bench;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The figures of w4_gemm_bench, a line of JSON each, as one table for each shape. */
record GemmTable(List<JsonObject> rows) {
    /**
     * @throws IOException if a line is not an object with the fields that a row of the table needs
     */
    static GemmTable read(Path file) throws IOException {
        List<JsonObject> rows = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            try {
                JsonElement element = JsonParser.parseString(line);
                JsonObject row = element.getAsJsonObject();
                for (String name : List.of("k", "n", "m", "us", "gbps", "copy_gbps", "tflops")) {
                    row.get(name).getAsDouble();
                }
                rows.add(row);
            } catch (RuntimeException unreadable) {
                throw new IOException("%s: \"%s\" is no row".formatted(file, line), unreadable);
            }
        }
        return new GemmTable(rows);
    }

    String toMarkdown() {
        Map<String, List<JsonObject>> shapes = new LinkedHashMap<>();
        for (JsonObject row : rows) {
            String shape = "%sx%s".formatted(row.get("k"), row.get("n"));
            shapes.computeIfAbsent(shape, name -> new ArrayList<>()).add(row);
        }
        StringBuilder text = new StringBuilder();
        shapes.forEach(
                (shape, members) -> {
                    text.append("\n| %s, M | us | GB/s | of copy | TFLOP/s |".formatted(shape));
                    text.append(" cuBLAS fp16 us | faster |\n|--:|--:|--:|--:|--:|--:|--:|\n");
                    members.forEach(row -> append(text, row));
                });
        return text.toString();
    }

    private static void append(StringBuilder text, JsonObject row) {
        double us = row.get("us").getAsDouble();
        double gbps = row.get("gbps").getAsDouble();
        boolean compared = row.has("cublas_us");
        double cublas = compared ? row.get("cublas_us").getAsDouble() : 0;
        text.append(
                String.format(
                        Locale.ROOT,
                        "| %d | %.2f | %.0f | %.0f%% | %.1f | %s | %s |\n",
                        row.get("m").getAsInt(),
                        us,
                        gbps,
                        100 * gbps / row.get("copy_gbps").getAsDouble(),
                        row.get("tflops").getAsDouble(),
                        compared ? String.format(Locale.ROOT, "%.2f", cublas) : "",
                        compared ? String.format(Locale.ROOT, "%.2fx", cublas / us) : ""));
    }
}
