package dev.tarpon.format;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.JsonScanner.Token;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** JSON as RFC 8259 has it, and nothing else. */
class JsonScannerTest {
    private static JsonScanner scanner(String text) {
        return new JsonScanner("file", text);
    }

    @Test
    void test_json_values_are_read_in_order() throws IOException {
        var seen = new ArrayList<String>();
        JsonScanner json = scanner(" { \"a\" : [ 1 , \"x\" ] ,\t\"b\":{} }\r\n");
        json.readObject(
                "document",
                name -> {
                    seen.add(name);
                    if (name.equals("a")) {
                        json.readArray(
                                "a",
                                () ->
                                        seen.add(
                                                json.peek() == Token.NUMBER
                                                        ? json.readNumber("a")
                                                        : json.readString("a")));
                    } else {
                        json.readObject("b", seen::add);
                    }
                });
        assertEquals(Token.END, json.peek());
        assertEquals(List.of("a", "1", "x", "b"), seen);
    }

    @Test
    void test_json_escapes_are_resolved() throws IOException {
        String text = "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00 \ud83d\ude00\"";
        assertEquals(
                "\"\\/\b\f\n\r\t\u00e9\ud83d\ude00 \ud83d\ude00", scanner(text).readString("s"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"0", "-0", "10", "1.5", "1e3", "1E+3", "-2.25e-7", "18446744073709551616"})
    void test_json_numbers_are_kept_as_written(String text) throws IOException {
        assertEquals(text, scanner(text).readNumber("n"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "-         | lacks digits",
                "1.        | lacks digits",
                ".5        | does not begin",
                "1e        | lacks digits",
                "+1        | does not begin",
                "tru       | does not begin",
                "NaN       | does not begin",
                "'a'       | does not begin",
                "\"a       | ends within",
                "\"\\x\"   | no escape",
                "\"\\u12g4\" | hexadecimal",
                "\"\\ud800\" | surrogate",
                "\"\\udc00\\ud800\" | surrogate",
                "{\"a\" 1} | ':' is expected",
                "{a:1}     | name is expected",
                "{\"a\":1,} | name is expected",
                "{\"a\":1  | '}' is expected",
                "[1,]      | does not begin",
                "[1 2]     | ']' is expected",
                "//        | does not begin"
            })
    void test_json_refuses(String text, String message) {
        var failure = assertThrows(SafetensorsException.class, () -> readAll(scanner(text)));
        assertTrue(
                failure.getMessage().contains(message),
                () -> "expected \"" + message + "\" in: " + failure.getMessage());
    }

    @Test
    void test_json_refuses_control_characters_and_leading_zeros() throws IOException {
        assertThrows(SafetensorsException.class, () -> scanner("\"a\nb\"").readString("s"));
        JsonScanner json = scanner("[01]");
        assertThrows(
                SafetensorsException.class, () -> json.readArray("a", () -> json.readNumber("a")));
    }

    private static void readAll(JsonScanner json) throws IOException {
        switch (json.peek()) {
            case OBJECT -> json.readObject("object", name -> readAll(json));
            case ARRAY -> json.readArray("array", () -> readAll(json));
            case NUMBER -> json.readNumber("number");
            default -> json.readString("string");
        }
    }
}
