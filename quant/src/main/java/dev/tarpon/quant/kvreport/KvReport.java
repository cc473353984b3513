package dev.tarpon.quant.kvreport;

import java.util.List;
import java.util.Locale;

/**
 * What was measured.
 *
 * @param device where the library's cache was, as a text
 * @param sections keys and values of each model
 * @param predictions of the language model over each cache; empty without a model
 * @param predictionNote what they were measured with
 */
public record KvReport(
        String device,
        List<Section> sections,
        List<PredictionRow> predictions,
        String predictionNote) {

    /**
     * Schemes on the keys and values of a model.
     *
     * @param title the model
     * @param note the data, and what was calibrated on
     * @param rows every scheme at every width
     */
    public record Section(String title, String note, List<SchemeErrors> rows) {
        /** A scheme at a width. */
        public SchemeErrors row(Scheme scheme, int bits) {
            return rows.stream()
                    .filter(row -> row.scheme() == scheme && row.bits() == bits)
                    .findFirst()
                    .orElseThrow();
        }
    }

    /**
     * A language model over a cache.
     *
     * @param label the cache
     * @param series curve of the picture that it belongs to; "" for none
     * @param bitsPerValue with all metadata and tokens in 16 bits; 32 for keys and values in fp32
     * @param bytes that the caches of all windows took
     * @param perplexity of the held-out text
     * @param agreement share of places with the same likeliest token as over the 16-bit cache
     */
    public record PredictionRow(
            String label,
            String series,
            double bitsPerValue,
            long bytes,
            double perplexity,
            double agreement) {}

    private static final String STYLE =
            """
            :root {
              color-scheme: light dark;
              --paper: #fcfcfa; --ink: #1b1f24; --faint: #6b737c; --line: #d9dde1;
              --c0: #8a8f96; --c1: #9a5fb4; --c2: #3f8f5b; --c3: #b5541b; --c4: #b58a1b;
              --c5: #1f6fb2;
            }
            @media (prefers-color-scheme: dark) {
              :root {
                --paper: #15181c; --ink: #e8eaec; --faint: #9aa3ac; --line: #353b42;
                --c0: #a3a9b0; --c1: #c699dc; --c2: #77c793; --c3: #eb9a63; --c4: #e0c060;
                --c5: #6cb2ea;
              }
            }
            body {
              margin: 2rem auto; max-width: 64rem; padding: 0 1rem;
              background: var(--paper); color: var(--ink);
              font: 16px/1.5 system-ui, sans-serif;
            }
            h1 { font-size: 1.5rem; }
            h2 { font-size: 1.1rem; margin-top: 2rem; }
            p.note { color: var(--faint); }
            figure { margin: 0; max-width: 40rem; }
            svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
            svg text { fill: var(--ink); }
            svg .grid { stroke: var(--line); }
            svg .curve { fill: none; stroke-width: 2; }
            table { border-collapse: collapse; font-size: 0.9rem; }
            th, td { text-align: right; padding: 0.25rem 0.7rem;
                     border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
            th:first-child, td:first-child { text-align: left; }
            """;

    /** The page: self-contained, in the reader's light or dark colours. */
    public String html() {
        var out = new StringBuilder();
        out.append("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        out.append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        out.append("<title>Tarpon: low-bit KV caches</title>\n<style>\n").append(STYLE);
        for (int i = 0; i < Scheme.values().length; i++) {
            add(out, "polyline.c%d { stroke: var(--c%d); } ", i, i);
            add(out, "circle.c%d { fill: var(--c%d); }\n", i, i);
        }
        out.append("</style>\n</head>\n<body>\n<h1>Low-bit KV caches on real models</h1>\n");
        add(out, "<p class=\"note\">Cache on %s.</p>\n", escape(device));
        for (Section section : sections) {
            add(out, "<h2>%s</h2>\n", escape(section.title()));
            add(out, "<p class=\"note\">%s</p>\n", escape(section.note()));
            add(out, "<figure>\n%s</figure>\n", chart(section).svg());
            table(out, section);
        }
        if (!predictions.isEmpty()) {
            out.append("<h2>A language model through the cache</h2>\n");
            add(out, "<p class=\"note\">%s</p>\n", escape(predictionNote));
            add(out, "<figure>\n%s</figure>\n", predictionChart().svg());
            predictionTable(out);
        }
        return out.append("</body>\n</html>\n").toString();
    }

    private static LineChart chart(Section section) {
        var chart =
                new LineChart(
                        "Error of attention's outputs",
                        "bits a value, with all metadata",
                        "relative error");
        for (Scheme scheme : Scheme.values()) {
            List<SchemeErrors> rows =
                    section.rows().stream().filter(row -> row.scheme() == scheme).toList();
            chart.add(
                    "c" + scheme.ordinal(),
                    scheme.label(),
                    rows.stream().mapToDouble(SchemeErrors::bitsPerValue).toArray(),
                    rows.stream().mapToDouble(SchemeErrors::outputError).toArray());
        }
        return chart;
    }

    private static void table(StringBuilder out, Section section) {
        out.append("<table>\n<tr><th>scheme</th><th>bits</th><th>bits a value</th>");
        out.append("<th>keys, relative MSE</th><th>values, relative MSE</th>");
        out.append("<th>outputs, relative error</th></tr>\n");
        for (SchemeErrors row : section.rows()) {
            add(
                    out,
                    "<tr><td>%s</td><td>%d</td><td>%.3f</td><td>%.5f</td><td>%.5f</td>"
                            + "<td>%.4f</td></tr>\n",
                    row.scheme().label(),
                    row.bits(),
                    row.bitsPerValue(),
                    row.keyError(),
                    row.valueError(),
                    row.outputError());
        }
        out.append("</table>\n");
    }

    private LineChart predictionChart() {
        var chart =
                new LineChart(
                        "Held-out perplexity through the cache",
                        "bits a value, with all metadata",
                        "perplexity");
        for (Scheme scheme : Scheme.values()) {
            List<PredictionRow> rows =
                    predictions.stream()
                            .filter(row -> row.series().equals(scheme.label()))
                            .toList();
            if (!rows.isEmpty()) {
                chart.add(
                        "c" + scheme.ordinal(),
                        scheme.label(),
                        rows.stream().mapToDouble(PredictionRow::bitsPerValue).toArray(),
                        rows.stream().mapToDouble(PredictionRow::perplexity).toArray());
            }
        }
        return chart;
    }

    private void predictionTable(StringBuilder out) {
        out.append("<table>\n<tr><th>cache</th><th>bits a value</th><th>bytes</th>");
        out.append("<th>perplexity</th><th>same likeliest token</th></tr>\n");
        for (PredictionRow row : predictions) {
            add(
                    out,
                    "<tr><td>%s</td><td>%.3f</td><td>%d</td><td>%.4f</td><td>%.2f%%</td></tr>\n",
                    escape(row.label()),
                    row.bitsPerValue(),
                    row.bytes(),
                    row.perplexity(),
                    100 * row.agreement());
        }
        out.append("</table>\n");
    }

    private static void add(StringBuilder out, String format, Object... values) {
        out.append(String.format(Locale.ROOT, format, values));
    }

    private static String escape(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }
}
