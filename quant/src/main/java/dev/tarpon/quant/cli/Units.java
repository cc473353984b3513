package dev.tarpon.quant.cli;

import java.util.Locale;

/** Quantities as people read them. */
public final class Units {
    private Units() {}

    /** Bytes in decimal units with the exact number beside: 42.5 MB (42467328 bytes). */
    public static String bytes(long count) {
        if (count < 1000) {
            return count + " bytes";
        }
        return "%s (%d bytes)".formatted(shortBytes(count), count);
    }

    /** Bytes in decimal units: 42.5 MB. */
    public static String shortBytes(long count) {
        if (count < 1000) {
            return count + " B";
        }
        String[] units = {"kB", "MB", "GB", "TB", "PB", "EB"};
        double value = count / 1000.0;
        int unit = 0;
        while (value >= 999.95) {
            value /= 1000;
            unit++;
        }
        return String.format(Locale.ROOT, "%.1f %s", value, units[unit]);
    }

    /** A time span in milliseconds or seconds. */
    public static String seconds(double seconds) {
        return seconds < 1
                ? String.format(Locale.ROOT, "%.1f ms", seconds * 1e3)
                : String.format(Locale.ROOT, "%.2f s", seconds);
    }
}
