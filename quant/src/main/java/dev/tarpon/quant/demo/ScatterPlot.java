package dev.tarpon.quant.demo;

import java.util.Locale;

/** A scatter plot as inline SVG; its colours come from the page's style sheet. */
final class ScatterPlot {
    private static final int WIDTH = 480;
    private static final int HEIGHT = 400;
    private static final int LEFT = 60;
    private static final int RIGHT = 465;
    private static final int TOP = 34;
    private static final int BOTTOM = 345;
    private static final int RADIUS = 4;

    private final Axis x;
    private final Axis y;
    private final StringBuilder svg = new StringBuilder();
    private int legends;

    ScatterPlot(String title, String xTitle, String yTitle, Axis x, Axis y) {
        this.x = x;
        this.y = y;
        add(
                "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">%n",
                WIDTH, HEIGHT, DemoReport.escape(title));
        text((LEFT + RIGHT) / 2, 18, "middle", title);
        for (double tick : x.ticks()) {
            add(
                    "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>%n",
                    atX(tick), TOP, atX(tick), BOTTOM);
            text(atX(tick), BOTTOM + 18, "middle", x.label(tick));
        }
        for (double tick : y.ticks()) {
            add(
                    "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>%n",
                    LEFT, atY(tick), RIGHT, atY(tick));
            text(LEFT - 8, atY(tick) + 4, "end", y.label(tick));
        }
        text((LEFT + RIGHT) / 2, BOTTOM + 40, "middle", xTitle);
        int middle = (TOP + BOTTOM) / 2;
        add(
                "<text x=\"16\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 16 %d)\">"
                        + "%s</text>%n",
                middle, middle, DemoReport.escape(yTitle));
    }

    /** The line where y equals x. */
    void diagonal() {
        double low = Math.max(x.low(), y.low());
        double high = Math.min(x.high(), y.high());
        add(
                "<line class=\"guide\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>%n",
                atX(low), atY(low), atX(high), atY(high));
    }

    /** A point of a series, with the text that a pointer over it shows. */
    void point(String series, double px, double py, String hover) {
        add(
                "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\""
                        + " r=\"%d\"><title>%s</title></circle>%n",
                series, atX(px), atY(py), RADIUS, DemoReport.escape(hover));
    }

    /** Explains a series, in the lower right where the plotted curves of the demo leave room. */
    void legend(String series, String explanation) {
        int at = BOTTOM - 34 + 20 * legends++;
        add(
                "<circle class=\"%s\" cx=\"%d\" cy=\"%d\" r=\"%d\"/>%n",
                series, RIGHT - 210, at - 4, RADIUS);
        text(RIGHT - 200, at, "start", explanation);
    }

    String svg() {
        return svg + "</svg>\n";
    }

    private void text(double atX, double atY, String anchor, String content) {
        add(
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>%n",
                atX, atY, anchor, DemoReport.escape(content));
    }

    private double atX(double value) {
        return LEFT + x.fraction(value) * (RIGHT - LEFT);
    }

    private double atY(double value) {
        return BOTTOM - y.fraction(value) * (BOTTOM - TOP);
    }

    private void add(String format, Object... values) {
        svg.append(String.format(Locale.ROOT, format, values));
    }
}
