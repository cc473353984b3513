package dev.tarpon.quant.tokenizer;

/** Character classes as BERT's tokenisation defines them. */
final class Characters {
    private Characters() {}

    /** Unicode's White_Space property, which Java's own methods do not offer. */
    static boolean isWhitespace(int c) {
        return (c >= 0x09 && c <= 0x0d) || c == 0x85 || Character.isSpaceChar(c);
    }

    /** All printable ASCII that is neither letter nor digit nor space, and Unicode's P classes. */
    static boolean isPunctuation(int c) {
        if (c < 0x80) {
            return c > ' ' && c < 0x7f && !Character.isLetterOrDigit(c);
        }
        return switch (Character.getType(c)) {
            case Character.CONNECTOR_PUNCTUATION,
                    Character.DASH_PUNCTUATION,
                    Character.START_PUNCTUATION,
                    Character.END_PUNCTUATION,
                    Character.INITIAL_QUOTE_PUNCTUATION,
                    Character.FINAL_QUOTE_PUNCTUATION,
                    Character.OTHER_PUNCTUATION ->
                    true;
            default -> false;
        };
    }
}
