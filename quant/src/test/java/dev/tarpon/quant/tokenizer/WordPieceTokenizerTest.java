package dev.tarpon.quant.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.FormatException;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Token ids against those that huggingface/tokenizers gives (asked through DJL 0.38.0). */
class WordPieceTokenizerTest {
    private static WordPieceTokenizer tokenizer;

    @BeforeAll
    static void load() throws IOException {
        tokenizer = WordPieceTokenizer.load(TestPaths.model("all-minilm-l6-v2-tokenizer.json"));
    }

    static Arguments[] known() {
        return new Arguments[] {
            ids("Hello, world!", 7592, 1010, 2088, 999),
            ids("A man is playing a guitar.", 1037, 2158, 2003, 2652, 1037, 2858, 1012),
            ids("", new int[0]),
            ids("  \t\n ", new int[0]),
            // Accents go, a final sigma is an ordinary one, a dotted capital I loses its dot.
            ids(
                    "Caf\u00e9 na\u00efve \u00c5\u00c9\u00ce \u0130stanbul \u03a3\u0391\u03a3",
                    7668,
                    15743,
                    29347,
                    2072,
                    9960,
                    1173,
                    14608,
                    29733),
            // CJK ideographs stand alone, kana do not.
            ids(
                    "\u6771\u4eac\u306f\u65e5\u672c\u3067\u3059",
                    1879,
                    1755,
                    1672,
                    1864,
                    1876,
                    1665,
                    30184),
            ids("don't [MASK] [SEP]x", 2123, 1005, 1056, 103, 102, 1060),
            // NUL, the replacement character and a joiner vanish; tab and no-break space separate.
            ids("a\u0000b\ufffdc\u200dd\tq\u00a0z", 5925, 2094, 1053, 1062),
            ids("\u00dcn\u00efc\u00f6d\u00e9\u2014dash\u2026", 27260, 1517, 11454, 1529),
            ids("\ud83d\ude42 emoji", 100, 7861, 29147, 2072),
            ids(
                    "$3.50 + 20% = ^_`~ |<>",
                    1002, 1017, 1012, 2753, 1009, 2322, 1003, 1027, 1034, 1035, 1036, 1066, 1064,
                    1026, 1028),
            ids(
                    "supercalifragilisticexpialidocious antidisestablishmentarianism",
                    3565,
                    9289,
                    10128,
                    29181,
                    24411,
                    4588,
                    10288,
                    19312,
                    21273,
                    10085,
                    6313,
                    3424,
                    10521,
                    4355,
                    7875,
                    13602,
                    3672,
                    12199,
                    2964),
            // A word of more than 100 characters is unknown.
            ids("x".repeat(101) + " y", 100, 1061),
        };
    }

    @ParameterizedTest
    @MethodSource("known")
    void test_tokenizer_gives_known_ids(String text, int[] inner) {
        int[] expected = new int[inner.length + 2];
        expected[0] = 101;
        System.arraycopy(inner, 0, expected, 1, inner.length);
        expected[inner.length + 1] = 102;
        assertArrayEquals(expected, tokenizer.encode(text), text);
    }

    @Test
    void test_tokenizer_cuts_to_the_length_of_the_file() {
        int[] ids = tokenizer.encode("word ".repeat(300));
        assertEquals(128, ids.length);
        assertEquals(101, ids[0]);
        assertEquals(2773, ids[126]);
        assertEquals(102, ids[127]);
        int[] exact = tokenizer.encode("word ".repeat(126));
        assertArrayEquals(exact, ids);
        assertEquals(127, tokenizer.encode("word ".repeat(125)).length);
    }

    @Test
    void test_tokenizer_refuses_other_files(@TempDir Path folder) throws IOException {
        for (String json : new String[] {"{}", "[]", "", "{\"model\":{\"type\":\"BPE\"}}", "nul"}) {
            Path file = Files.writeString(folder.resolve("tokenizer.json"), json);
            var failure =
                    assertThrows(FormatException.class, () -> WordPieceTokenizer.load(file), json);
            assertTrue(failure.getMessage().contains("tokenizer.json"), failure.getMessage());
        }
    }

    private static Arguments ids(String text, int... inner) {
        return Arguments.of(text, inner);
    }
}
