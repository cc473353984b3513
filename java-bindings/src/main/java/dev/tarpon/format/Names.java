package dev.tarpon.format;

/** Names that come from files, made fit for messages and terminals. */
public final class Names {
    private static final int LONGEST = 120;

    private Names() {}

    /**
     * The name in quotes. Control characters (a file may hold terminal escapes) are written as
     * backslash-u sequences, and a long name is cut with its length added.
     */
    public static String quote(String name) {
        return "'" + printable(name) + "'";
    }

    /** The same without quotes, for tables. */
    public static String printable(String name) {
        var text = new StringBuilder();
        int shown = Math.min(name.length(), LONGEST);
        for (int i = 0; i < shown; i++) {
            char c = name.charAt(i);
            if (Character.isISOControl(c) || Character.getType(c) == Character.FORMAT) {
                text.append(String.format("\\u%04x", (int) c));
            } else {
                text.append(c);
            }
        }
        if (shown < name.length()) {
            text.append("... (").append(name.length()).append(" characters)");
        }
        return text.toString();
    }
}
