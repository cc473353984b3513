package dev.tarpon.format;

import java.io.IOException;

/**
 * Strict JSON (RFC 8259), read value by value into whatever the caller makes of it.
 *
 * <p>Enough for the header of a safetensors file, so that the library needs no JSON library:
 * nothing is built in between, and no value is skipped, so that nesting costs no stack but the
 * caller's. What a reader must not be lenient about is refused: comments, trailing commas, control
 * characters in strings, half of a surrogate pair.
 */
final class JsonScanner {
    /** What a value is; {@link #END} after the last one. */
    enum Token {
        OBJECT,
        ARRAY,
        STRING,
        NUMBER,
        BOOLEAN,
        NULL,
        END
    }

    /** Reads the value of a member; it has to consume it. */
    @FunctionalInterface
    interface Member {
        void read(String name) throws IOException;
    }

    /** Reads an element; it has to consume it. */
    @FunctionalInterface
    interface Element {
        void read() throws IOException;
    }

    private final String source;
    private final CharSequence text;
    private int position;

    /**
     * @param source the file, for messages
     * @param text the whole document
     */
    JsonScanner(String source, CharSequence text) {
        this.source = source;
        this.text = text;
    }

    /** The kind of the value that comes next. */
    Token peek() throws SafetensorsException {
        skipSpace();
        if (position == text.length()) {
            return Token.END;
        }
        char c = text.charAt(position);
        return switch (c) {
            case '{' -> Token.OBJECT;
            case '[' -> Token.ARRAY;
            case '"' -> Token.STRING;
            case 't' -> literal("true", Token.BOOLEAN);
            case 'f' -> literal("false", Token.BOOLEAN);
            case 'n' -> literal("null", Token.NULL);
            default -> {
                if (c != '-' && !isDigit(c)) {
                    throw malformed("a value does not begin with " + shown(c));
                }
                yield Token.NUMBER;
            }
        };
    }

    /** Reads an object, member by member; a name may occur more than once. */
    void readObject(String where, Member member) throws IOException {
        expect(Token.OBJECT, where);
        position++;
        if (skip('}')) {
            return;
        }
        do {
            skipSpace();
            if (position == text.length() || text.charAt(position) != '"') {
                throw malformed("a member's name is expected");
            }
            String name = string();
            require(':');
            member.read(name);
        } while (skip(','));
        require('}');
    }

    /** Reads an array, element by element. */
    void readArray(String where, Element element) throws IOException {
        expect(Token.ARRAY, where);
        position++;
        if (skip(']')) {
            return;
        }
        do {
            element.read();
        } while (skip(','));
        require(']');
    }

    /** Reads a string. */
    String readString(String where) throws SafetensorsException {
        expect(Token.STRING, where);
        return string();
    }

    /** Reads a number; returns it as it is written. */
    String readNumber(String where) throws SafetensorsException {
        expect(Token.NUMBER, where);
        int begin = position;
        take('-');
        if (!take('0')) {
            digits();
        }
        if (take('.')) {
            digits();
        }
        if (take('e') || take('E')) {
            if (!take('-')) {
                take('+');
            }
            digits();
        }
        return text.subSequence(begin, position).toString();
    }

    /** Checks that the next value is of a kind. */
    void expect(Token wanted, String where) throws SafetensorsException {
        Token found = peek();
        if (found == Token.END && wanted != Token.END) {
            throw malformed("it ends within " + where);
        }
        if (found != wanted) {
            throw new SafetensorsException(
                    source, "%s: expected %s, found %s".formatted(where, wanted, found));
        }
    }

    /** Looks at a word; no reader here consumes one. */
    private Token literal(String word, Token token) throws SafetensorsException {
        int end = Math.min(text.length(), position + word.length());
        if (!word.contentEquals(text.subSequence(position, end))) {
            throw malformed("a value does not begin with " + shown(text.charAt(position)));
        }
        return token;
    }

    private String string() throws SafetensorsException {
        position++;
        var value = new StringBuilder();
        while (true) {
            char c = next();
            if (c == '"') {
                break;
            }
            if (c < ' ') {
                throw malformed("a string holds the control character " + shown(c));
            }
            value.append(c == '\\' ? escape() : c);
        }
        for (int i = 0; i < value.length(); i++) {
            // codePointAt joins a pair; what is left of a surrogate alone is half of one.
            int codePoint = value.codePointAt(i);
            if (codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE) {
                throw malformed("a string holds half of a surrogate pair");
            }
            i += Character.charCount(codePoint) - 1;
        }
        return value.toString();
    }

    private char escape() throws SafetensorsException {
        char c = next();
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> {
                int unit = 0;
                for (int i = 0; i < 4; i++) {
                    char digit = next();
                    if (digit > 'f' || Character.digit(digit, 16) < 0) {
                        throw malformed(shown(digit) + " is not a hexadecimal digit");
                    }
                    unit = unit << 4 | Character.digit(digit, 16);
                }
                yield (char) unit;
            }
            default -> throw malformed("no escape is named " + shown(c));
        };
    }

    private void digits() throws SafetensorsException {
        int begin = position;
        while (position < text.length() && isDigit(text.charAt(position))) {
            position++;
        }
        if (position == begin) {
            throw malformed("a number lacks digits");
        }
    }

    private char next() throws SafetensorsException {
        if (position == text.length()) {
            throw malformed("it ends within a string");
        }
        return text.charAt(position++);
    }

    private boolean take(char c) {
        if (position == text.length() || text.charAt(position) != c) {
            return false;
        }
        position++;
        return true;
    }

    private boolean skip(char c) {
        skipSpace();
        return take(c);
    }

    private void require(char c) throws SafetensorsException {
        if (!skip(c)) {
            throw malformed(shown(c) + " is expected");
        }
    }

    private void skipSpace() {
        while (position < text.length() && " \t\r\n".indexOf(text.charAt(position)) >= 0) {
            position++;
        }
    }

    private static boolean isDigit(char c) {
        return c >= '0' && c <= '9';
    }

    private static String shown(char c) {
        return Names.quote(String.valueOf(c));
    }

    private SafetensorsException malformed(String detail) {
        return new SafetensorsException(
                source, "header is not valid JSON at character %d: %s".formatted(position, detail));
    }
}
