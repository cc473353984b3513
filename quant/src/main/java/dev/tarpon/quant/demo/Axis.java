package dev.tarpon.quant.demo;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * The range of a plot's axis, ending at round numbers.
 *
 * @param low smallest value
 * @param high largest value
 * @param step distance of the ticks
 */
public record Axis(double low, double high, double step) {
    private static final int TARGET_TICKS = 6;

    /** An axis with about six ticks that covers a range. */
    public static Axis covering(double low, double high) {
        double span = high > low ? high - low : 1;
        double magnitude = Math.pow(10, Math.floor(Math.log10(span / TARGET_TICKS)));
        double step = magnitude;
        for (double factor : new double[] {1, 2, 5, 10}) {
            step = factor * magnitude;
            if (span / step <= TARGET_TICKS) {
                break;
            }
        }
        return new Axis(Math.floor(low / step) * step, Math.ceil((low + span) / step) * step, step);
    }

    /** The values to label. */
    public List<Double> ticks() {
        List<Double> ticks = new ArrayList<>();
        int count = (int) Math.round((high - low) / step);
        for (int i = 0; i <= count; i++) {
            ticks.add(low + i * step);
        }
        return ticks;
    }

    /** A tick's label, with as many decimals as the step has. */
    public String label(double tick) {
        int decimals = Math.max(0, (int) -Math.floor(Math.log10(step) + 1e-9));
        // Adding zero turns a negative zero, which rounding may leave, into a plain one.
        return String.format(
                Locale.ROOT, "%." + decimals + "f", Math.round(tick * 1e9) / 1e9 + 0.0);
    }

    /** Where a value lies between low and high, from 0 to 1. */
    public double fraction(double value) {
        return (value - low) / (high - low);
    }
}
