package dev.tarpon.quant.train;

import dev.tarpon.quant.demo.Axis;

import java.util.Locale;

/**
 * The losses of a run as an SVG file of its own, in the reader's light or dark colours. Colours are
 * written out rather than as variables, which only browsers know.
 */
final class LossCurve {
    private static final String TITLE = "Training a small language model";
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
              text { font: 13px system-ui, sans-serif; fill: #1b1f24; }
              .title { font-size: 15px; font-weight: 600; }
              .value { fill: #b5541b; font-weight: 600; }
              .paper { fill: #fcfcfa; }
              .grid { stroke: #d9dde1; }
              .training { fill: none; stroke: #1f6fb2; stroke-width: 1.5; }
              .heldout { fill: none; stroke: #b5541b; stroke-width: 2; }
              circle { fill: #b5541b; }
              @media (prefers-color-scheme: dark) {
                text { fill: #e8eaec; }
                .value { fill: #eb9a63; }
                .paper { fill: #15181c; }
                .grid { stroke: #353b42; }
                .training { stroke: #6cb2ea; }
                .heldout { stroke: #eb9a63; }
                circle { fill: #eb9a63; }
              }
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
                        + " aria-label=\"%s\">%n",
                WIDTH, HEIGHT, TITLE);
        out.append(STYLE);
        add("<rect class=\"paper\" width=\"%d\" height=\"%d\"/>%n", WIDTH, HEIGHT);
        add(
                "<text class=\"title\" x=\"%.1f\" y=\"24\" text-anchor=\"middle\">%s</text>%n",
                (LEFT + RIGHT) / 2.0, TITLE);
        for (double tick : x.ticks()) {
            line(atX(tick), TOP, atX(tick), BOTTOM);
            text(atX(tick), BOTTOM + 18, "middle", x.label(tick));
        }
        for (double tick : y.ticks()) {
            line(LEFT, atY(tick), RIGHT, atY(tick));
            text(LEFT - 8, atY(tick) + 4, "end", y.label(tick));
        }
        text((LEFT + RIGHT) / 2.0, BOTTOM + 40, "middle", "step");
        add(
                "<text transform=\"translate(18 %.1f) rotate(-90)\" text-anchor=\"middle\">loss,"
                        + " nats a byte</text>%n",
                (TOP + BOTTOM) / 2.0);
        training();
        heldOut();
        lastValue();
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

    /** What the run came to, below its last point, where a falling curve leaves room. */
    private void lastValue() {
        if (history.heldOut().isEmpty()) {
            return;
        }
        LossHistory.Measurement last = history.heldOut().getLast();
        add(
                "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3f</text>%n",
                Math.min(atX(last.step()) + 10, RIGHT),
                Math.min(atY(last.loss()) + 30, BOTTOM - 6),
                last.loss());
    }

    /** In the upper right, which a falling curve leaves free. */
    private void legend(int row, String series, String explanation) {
        int at = TOP + 18 + 20 * row;
        add(
                "<polyline class=\"%s\" points=\"%d,%d %d,%d\"/>%n",
                series, RIGHT - 270, at, RIGHT - 240, at);
        text(RIGHT - 232, at + 4, "start", explanation);
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
