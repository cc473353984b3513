package dev.tarpon.quant.cli;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;

/** Text in aligned columns, each as wide as its widest cell. */
final class Table {
    private final List<String[]> rows = new ArrayList<>();

    /** Adds a row; all rows have as many cells as the first. */
    Table row(String... cells) {
        rows.add(cells);
        return this;
    }

    /** Prints the rows with an indentation. */
    void print(PrintWriter out, String indent) {
        int columns = rows.isEmpty() ? 0 : rows.getFirst().length;
        int[] widths = new int[columns];
        for (String[] row : rows) {
            for (int i = 0; i < columns; i++) {
                widths[i] = Math.max(widths[i], row[i].length());
            }
        }
        for (String[] row : rows) {
            var line = new StringBuilder(indent);
            for (int i = 0; i < columns; i++) {
                line.append(row[i]);
                if (i + 1 < columns) {
                    line.append(" ".repeat(widths[i] - row[i].length() + 2));
                }
            }
            out.println(line.toString().stripTrailing());
        }
    }
}
