package dev.tarpon.quant.train;

import dev.tarpon.quant.demo.Axis;

import java.util.Locale;

/** The losses of a run as an SVG file of its own, in the reader's light or dark colours. */
final class LossCurve {
    private static final int WIDTH = 720;
    private static final int HEIGHT = 420;
    private static final int LEFT = 60;
    private static final int RIGHT = 700;
    private static final int TOP = 40;
    private static final int BOTTOM = 365;

    /** At most so many points of the training loss, each a mean over neighbouring steps. */
    private static final int POINTS = 320;

    private static final String STYLE =
            """
            <style>
              svg { --paper: #fcfcfa; --ink: #1b1f24; --line: #d9dde1;
                    --first: #1f6fb2; --second: #b5541b; background: var(--paper);
                    font: 13px system-ui, sans-serif; }
              @media (prefers-color-scheme: dark) {
                svg { --paper: #15181c; --ink: #e8eaec; --line: #353b42;
                      --first: #6cb2ea; --second: #eb9a63; }
              }
              text { fill: var(--ink); }
              .grid { stroke: var(--line); }
              .training { fill: none; stroke: var(--first); stroke-width: 1.5; }
              .heldout { fill: none; stroke: var(--second); stroke-width: 2; }
              circle { fill: var(--second); }
            </style>
            """;

    private final LossHistory history;
    private final Axis x;
    private final Axis y;
    private final StringBuilder out = new StringBuilder();

    private LossCurve(LossHistory history) {
        this.history = history;
        double low = Double.POSITIVE_INFINITY;
        double high = Double.NEGATIVE_INFINITY;
        for (double loss : history.training()) {
            low = Math.min(low, loss);
            high = Math.max(high, loss);
        }
        for (LossHistory.Measurement measurement : history.heldOut()) {
            low = Math.min(low, measurement.loss());
            high = Math.max(high, measurement.loss());
        }
        this.x = Axis.covering(0, history.steps());
        this.y = history.steps() == 0 ? Axis.covering(0, 1) : Axis.covering(low, high);
    }

    /** The picture. */
    static String svg(LossHistory history) {
        return new LossCurve(history).picture();
    }

    private String picture() {
        add(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\""
                        + " aria-label=\"Loss curve\">%n",
                WIDTH, HEIGHT);
        out.append(STYLE);
        text((LEFT + RIGHT) / 2.0, 22, "middle", "Loss in nats a byte");
        for (double tick : x.ticks()) {
            line(atX(tick), TOP, atX(tick), BOTTOM);
            text(atX(tick), BOTTOM + 18, "middle", x.label(tick));
        }
        for (double tick : y.ticks()) {
            line(LEFT, atY(tick), RIGHT, atY(tick));
            text(LEFT - 8, atY(tick) + 4, "end", y.label(tick));
        }
        text((LEFT + RIGHT) / 2.0, BOTTOM + 40, "middle", "step");
        training();
        heldOut();
        legend(0, "training", "training, each step's own windows");
        legend(1, "heldout", "held-out documents");
        return out.append("</svg>\n").toString();
    }

    private void training() {
        int steps = history.steps();
        int points = Math.min(POINTS, steps);
        out.append("<polyline class=\"training\" points=\"");
        for (int point = 0; point < points; point++) {
            int from = (int) ((long) steps * point / points);
            int to = (int) ((long) steps * (point + 1) / points);
            double mean =
                    history.training().subList(from, to).stream()
                            .mapToDouble(Double::doubleValue)
                            .average()
                            .orElseThrow();
            add("%.1f,%.1f ", atX((from + 1 + to) / 2.0), atY(mean));
        }
        add("\"/>%n");
    }

    private void heldOut() {
        out.append("<polyline class=\"heldout\" points=\"");
        for (LossHistory.Measurement measurement : history.heldOut()) {
            add("%.1f,%.1f ", atX(measurement.step()), atY(measurement.loss()));
        }
        add("\"/>%n");
        for (LossHistory.Measurement measurement : history.heldOut()) {
            add(
                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>step %d: %.4f</title>"
                            + "</circle>%n",
                    atX(measurement.step()),
                    atY(measurement.loss()),
                    measurement.step(),
                    measurement.loss());
        }
    }

    /** In the upper right, which a falling curve leaves free. */
    private void legend(int row, String series, String explanation) {
        int at = TOP + 18 + 20 * row;
        add(
                "<polyline class=\"%s\" points=\"%d,%d %d,%d\"/>%n",
                series, RIGHT - 260, at, RIGHT - 230, at);
        text(RIGHT - 222, at + 4, "start", explanation);
    }

    private void line(double x1, double y1, double x2, double y2) {
        add(
                "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>%n",
                x1, y1, x2, y2);
    }

    private void text(double atX, double atY, String anchor, String content) {
        add(
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>%n",
                atX, atY, anchor, content);
    }

    private double atX(double value) {
        return LEFT + x.fraction(value) * (RIGHT - LEFT);
    }

    private double atY(double value) {
        return BOTTOM - y.fraction(value) * (BOTTOM - TOP);
    }

    private void add(String format, Object... values) {
        out.append(String.format(Locale.ROOT, format, values));
    }
}
