package dev.tarpon.quant.tokenizer;

import java.text.Normalizer;
import java.util.Locale;

/**
 * The text normalisation of BERT: clean, set CJK apart, strip accents, lower the case.
 *
 * <p>Follows the BertNormalizer of huggingface/tokenizers to the character, its ranges included,
 * because token ids must be the ones that the model was trained with.
 */
final class BertNormalizer {
    private static final int REPLACEMENT = 0xfffd;

    private final boolean cleanText;
    private final boolean spaceCjk;
    private final boolean stripAccents;
    private final boolean lowercase;

    BertNormalizer(boolean cleanText, boolean spaceCjk, boolean stripAccents, boolean lowercase) {
        this.cleanText = cleanText;
        this.spaceCjk = spaceCjk;
        this.stripAccents = stripAccents;
        this.lowercase = lowercase;
    }

    String normalize(String text) {
        var spaced = new StringBuilder(text.length() + 16);
        text.codePoints().forEach(c -> appendCleaned(spaced, c));
        String result = spaced.toString();
        if (stripAccents) {
            result = withoutAccents(result);
        }
        return lowercase ? lowered(result) : result;
    }

    private void appendCleaned(StringBuilder out, int c) {
        if (cleanText && (c == 0 || c == REPLACEMENT || isControl(c))) {
            return;
        }
        if (cleanText && Characters.isWhitespace(c)) {
            out.append(' ');
        } else if (spaceCjk && isCjk(c)) {
            out.append(' ').appendCodePoint(c).append(' ');
        } else {
            out.appendCodePoint(c);
        }
    }

    private static boolean isControl(int c) {
        if (c == '\t' || c == '\n' || c == '\r') {
            return false;
        }
        return switch (Character.getType(c)) {
            case Character.CONTROL, Character.FORMAT, Character.PRIVATE_USE, Character.SURROGATE ->
                    true;
            default -> false;
        };
    }

    /** CJK ideographs as BERT counts them; 0x2b920 is the reference's own boundary. */
    private static boolean isCjk(int c) {
        return (c >= 0x4e00 && c <= 0x9fff)
                || (c >= 0x3400 && c <= 0x4dbf)
                || (c >= 0x20000 && c <= 0x2a6df)
                || (c >= 0x2a700 && c <= 0x2b73f)
                || (c >= 0x2b740 && c <= 0x2b81f)
                || (c >= 0x2b920 && c <= 0x2ceaf)
                || (c >= 0xf900 && c <= 0xfaff)
                || (c >= 0x2f800 && c <= 0x2fa1f);
    }

    private static String withoutAccents(String text) {
        var out = new StringBuilder(text.length());
        Normalizer.normalize(text, Normalizer.Form.NFD)
                .codePoints()
                .filter(c -> Character.getType(c) != Character.NON_SPACING_MARK)
                .forEach(out::appendCodePoint);
        return out.toString();
    }

    /** Each character on its own: String.toLowerCase would treat a final sigma differently. */
    private static String lowered(String text) {
        var out = new StringBuilder(text.length());
        text.codePoints().forEach(c -> out.append(Character.toString(c).toLowerCase(Locale.ROOT)));
        return out.toString();
    }
}
