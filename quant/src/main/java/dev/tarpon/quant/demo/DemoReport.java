package dev.tarpon.quant.demo;

import java.util.Locale;

/** The demo's result as one self-contained HTML page, in the reader's light or dark colours. */
public final class DemoReport {
    private static final String STYLE =
            """
            :root {
              color-scheme: light dark;
              --paper: #fcfcfa; --ink: #1b1f24; --faint: #6b737c; --line: #d9dde1;
              --first: #1f6fb2; --second: #b5541b;
            }
            @media (prefers-color-scheme: dark) {
              :root {
                --paper: #15181c; --ink: #e8eaec; --faint: #9aa3ac; --line: #353b42;
                --first: #6cb2ea; --second: #eb9a63;
              }
            }
            body {
              margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
              background: var(--paper); color: var(--ink);
              font: 16px/1.5 system-ui, sans-serif;
            }
            h1 { font-size: 1.5rem; }
            h2 { font-size: 1.1rem; margin-top: 2rem; }
            p.note, td.note { color: var(--faint); }
            .plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
            figure { margin: 0; flex: 1 1 24rem; }
            figcaption { color: var(--faint); font-size: 0.9rem; }
            svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
            svg text { fill: var(--ink); }
            svg .grid { stroke: var(--line); }
            svg .guide { stroke: var(--faint); stroke-dasharray: 4 4; }
            svg .first { fill: var(--first); fill-opacity: 0.75; }
            svg .second { fill: var(--second); fill-opacity: 0.75; }
            table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
            th, td { text-align: left; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); }
            td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
            """;

    private final DemoResult result;
    private final StringBuilder out = new StringBuilder();

    private DemoReport(DemoResult result) {
        this.result = result;
    }

    /** The page. */
    public static String html(DemoResult result) {
        return new DemoReport(result).page();
    }

    private String page() {
        out.append("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        out.append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        out.append("<title>Tarpon: all-MiniLM-L6-v2 in 4 bits</title>\n<style>\n");
        out.append(STYLE).append("</style>\n</head>\n<body>\n");
        add("<h1>all-MiniLM-L6-v2 with 4-bit linear layers</h1>\n");
        add(
                "<p>%d linear layers, round to nearest, group %d, %s activations, on %s (%s, %s)."
                        + "</p>\n",
                result.linearCount(),
                result.groupSize(),
                escape(result.activation()),
                escape(result.device().spec()),
                escape(result.device().name()),
                escape(result.device().isa()));
        summary();
        add("<h2>What the quantisation changes</h2>\n<div class=\"plots\">\n");
        similarityPlot();
        cosinePlot();
        add("</div>\n");
        pairTable();
        out.append("</body>\n</html>\n");
        return out.toString();
    }

    private void summary() {
        add("<table>\n<tr><th></th><th class=\"number\">fp32</th>");
        add("<th class=\"number\">4-bit</th><th></th></tr>\n");
        row(
                "linear weights",
                text("%.1f MB", result.floatBytes() / 1e6),
                text("%.1f MB", result.quantizedBytes() / 1e6),
                text("%.2fx smaller", (double) result.floatBytes() / result.quantizedBytes()));
        row(
                "%d sentences, %d tokens".formatted(2 * result.pairs().size(), result.tokens()),
                text("%.1f ms", result.floatSeconds() * 1e3),
                text("%.1f ms", result.quantizedSeconds() * 1e3),
                "fp32 in plain Java, 4-bit through the library; attention and the rest are the"
                        + " same Java code in both");
        add("</table>\n");
        add("<table>\n<tr><th>Agreement of the 4-bit embeddings</th>");
        add("<th class=\"number\">min</th><th class=\"number\">mean</th><th></th></tr>\n");
        row(
                "cosine with fp32 on the same dequantised weights",
                text("%.6f", DemoResult.min(result.toDequantized())),
                text("%.6f", DemoResult.mean(result.toDequantized())),
                "the kernels' faithfulness; every sentence must reach "
                        + DemoResult.FAITHFUL_COSINE);
        row(
                "cosine with the original fp32 model",
                text("%.4f", DemoResult.min(result.toFloat())),
                text("%.4f", DemoResult.mean(result.toFloat())),
                "the cost of rounding to 4 bits");
        if (result.pairs().size() > 1) {
            row(
                    "Spearman correlation of pair similarities",
                    "",
                    text("%.4f", result.spearman()),
                    "1 means that the ranking is unchanged");
        }
        add("</table>\n");
    }

    private void row(String name, String first, String second, String note) {
        add(
                "<tr><td>%s</td><td class=\"number\">%s</td><td class=\"number\">%s</td>"
                        + "<td class=\"note\">%s</td></tr>\n",
                escape(name), escape(first), escape(second), escape(note));
    }

    private void similarityPlot() {
        double[] x = result.floatSimilarities();
        double[] y = result.quantizedSimilarities();
        double low = Math.min(0, Math.min(DemoResult.min(x), DemoResult.min(y)));
        var plot =
                new ScatterPlot(
                        "Similarity of each sentence pair",
                        "with fp32 weights",
                        "with 4-bit weights",
                        Axis.covering(low, 1),
                        Axis.covering(low, 1));
        plot.diagonal();
        for (int i = 0; i < x.length; i++) {
            SentencePairs.Pair pair = result.pairs().get(i);
            plot.point(
                    "first",
                    x[i],
                    y[i],
                    text("%.3f -> %.3f: %s / %s", x[i], y[i], pair.first(), pair.second()));
        }
        figure(plot, "A point is a pair of sentences; on the dashed line nothing changes.");
    }

    private void cosinePlot() {
        double[] cosines = result.toFloat();
        double low = Math.min(0.9, DemoResult.min(cosines));
        var plot =
                new ScatterPlot(
                        "Agreement of each sentence's embedding",
                        "sentence",
                        "cosine with the reference",
                        Axis.covering(0, cosines.length),
                        Axis.covering(low, 1));
        for (int i = 0; i < cosines.length; i++) {
            SentencePairs.Pair pair = result.pairs().get(i / 2);
            String sentence = i % 2 == 0 ? pair.first() : pair.second();
            plot.point("second", i + 1, cosines[i], text("%.4f: %s", cosines[i], sentence));
            plot.point(
                    "first",
                    i + 1,
                    result.toDequantized()[i],
                    text("%.6f: %s", result.toDequantized()[i], sentence));
        }
        plot.legend("second", "original fp32 model");
        plot.legend("first", "fp32 on the dequantised weights");
        figure(plot, "The first shows what 4 bits cost, the second what the kernels add.");
    }

    private void figure(ScatterPlot plot, String caption) {
        out.append("<figure>\n").append(plot.svg());
        add("<figcaption>%s</figcaption>\n</figure>\n", escape(caption));
    }

    private void pairTable() {
        add("<h2>Sentence pairs</h2>\n<table>\n<tr><th>first</th><th>second</th>");
        add("<th class=\"number\">fp32</th><th class=\"number\">4-bit</th></tr>\n");
        for (int i = 0; i < result.pairs().size(); i++) {
            SentencePairs.Pair pair = result.pairs().get(i);
            add(
                    "<tr><td>%s</td><td>%s</td><td class=\"number\">%.3f</td>"
                            + "<td class=\"number\">%.3f</td></tr>\n",
                    escape(pair.first()),
                    escape(pair.second()),
                    result.floatSimilarities()[i],
                    result.quantizedSimilarities()[i]);
        }
        add("</table>\n");
    }

    private void add(String format, Object... values) {
        out.append(text(format, values));
    }

    private static String text(String format, Object... values) {
        return String.format(Locale.ROOT, format, values);
    }

    /** Text as HTML and SVG show it. */
    static String escape(String text) {
        return text.replace("&", "&amp;")
                .replace("<", "&lt;")
                .replace(">", "&gt;")
                .replace("\"", "&quot;");
    }
}
