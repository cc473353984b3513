package dev.tarpon.quant.kvreport;

import dev.tarpon.quant.demo.Axis;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Curves over a linear axis, upwards on a logarithmic one, as inline SVG. */
final class LineChart {
    private static final int WIDTH = 520;
    private static final int HEIGHT = 400;
    private static final int LEFT = 64;
    private static final int RIGHT = 400;
    private static final int TOP = 34;
    private static final int BOTTOM = 345;

    private final String title;
    private final String xTitle;
    private final String yTitle;
    private final List<Series> series = new ArrayList<>();

    /** A curve; {@code style} is a class of the page's style sheet. */
    private record Series(String style, String label, double[] x, double[] y) {}

    LineChart(String title, String xTitle, String yTitle) {
        this.title = title;
        this.xTitle = xTitle;
        this.yTitle = yTitle;
    }

    /** Adds a curve through points, y over 0. */
    void add(String style, String label, double[] x, double[] y) {
        series.add(new Series(style, label, x, y));
    }

    String svg() {
        double lowX = Double.POSITIVE_INFINITY;
        double highX = Double.NEGATIVE_INFINITY;
        double lowY = Double.POSITIVE_INFINITY;
        double highY = Double.NEGATIVE_INFINITY;
        for (Series one : series) {
            for (int i = 0; i < one.x().length; i++) {
                lowX = Math.min(lowX, one.x()[i]);
                highX = Math.max(highX, one.x()[i]);
                lowY = Math.min(lowY, one.y()[i]);
                highY = Math.max(highY, one.y()[i]);
            }
        }
        return new Drawing(Axis.covering(lowX, highX), lowY / 1.15, highY * 1.15).draw();
    }

    /** The chart once its ranges are known. */
    private final class Drawing {
        private final Axis x;
        private final double low;
        private final double high;
        private final StringBuilder out = new StringBuilder();

        Drawing(Axis x, double low, double high) {
            this.x = x;
            this.low = low;
            this.high = high;
        }

        String draw() {
            add(
                    "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">%n",
                    WIDTH, HEIGHT, title);
            text((LEFT + RIGHT) / 2.0, 18, "middle", title);
            for (double tick : x.ticks()) {
                line(atX(tick), TOP, atX(tick), BOTTOM);
                text(atX(tick), BOTTOM + 18, "middle", x.label(tick));
            }
            for (int power = -9; power <= 9; power++) {
                for (int digit : new int[] {1, 2, 5}) {
                    double tick = digit * Math.pow(10, power);
                    if (tick >= low && tick <= high) {
                        line(LEFT, atY(tick), RIGHT, atY(tick));
                        text(LEFT - 8, atY(tick) + 4, "end", label(tick));
                    }
                }
            }
            text((LEFT + RIGHT) / 2.0, BOTTOM + 40, "middle", xTitle);
            int middle = (TOP + BOTTOM) / 2;
            add(
                    "<text x=\"16\" y=\"%d\" text-anchor=\"middle\""
                            + " transform=\"rotate(-90 16 %d)\">%s</text>%n",
                    middle, middle, yTitle);
            for (int i = 0; i < series.size(); i++) {
                curve(series.get(i), TOP + 12 + 20 * i);
            }
            return out + "</svg>\n";
        }

        private void curve(Series one, int legendY) {
            var points = new StringBuilder();
            for (int i = 0; i < one.x().length; i++) {
                points.append(
                        String.format(Locale.ROOT, "%.1f,%.1f ", atX(one.x()[i]), atY(one.y()[i])));
            }
            add(
                    "<polyline class=\"curve %s\" points=\"%s\"/>%n",
                    one.style(), points.toString().strip());
            for (int i = 0; i < one.x().length; i++) {
                add(
                        "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%s: %.2f"
                                + " bits, %.4g</title></circle>%n",
                        one.style(),
                        atX(one.x()[i]),
                        atY(one.y()[i]),
                        one.label(),
                        one.x()[i],
                        one.y()[i]);
            }
            add(
                    "<circle class=\"%s\" cx=\"%d\" cy=\"%d\" r=\"4\"/>%n",
                    one.style(), RIGHT + 14, legendY - 4);
            text(RIGHT + 24, legendY, "start", one.label());
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

        private String label(double tick) {
            String digits = String.format(Locale.ROOT, "%.4f", tick);
            return digits.replaceAll("0+$", "").replaceAll("\\.$", "");
        }

        private double atX(double value) {
            return LEFT + (value - x.low()) / (x.high() - x.low()) * (RIGHT - LEFT);
        }

        private double atY(double value) {
            return BOTTOM - Math.log(value / low) / Math.log(high / low) * (BOTTOM - TOP);
        }

        private void add(String format, Object... values) {
            out.append(String.format(Locale.ROOT, format, values));
        }
    }
}
