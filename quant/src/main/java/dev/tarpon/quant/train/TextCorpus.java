package dev.tarpon.quant.train;

import dev.tarpon.format.FormatException;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.zip.GZIPInputStream;

/**
 * Documents as bytes, in two parts: one to train on and one that is held out. In each part the
 * documents lie end to end, each behind a byte 0, which no text contains.
 *
 * @param training text to train on
 * @param heldOut text of other documents
 * @param documents how many there are in both
 * @param heldOutDocuments how many of them are held out
 */
public record TextCorpus(byte[] training, byte[] heldOut, int documents, int heldOutDocuments) {
    /** What stands before each document. */
    private static final int DOCUMENT_START = 0;

    /**
     * Draws for each document whether it is held out.
     *
     * @param source what messages call the documents
     * @param heldOutFraction the probability, over 0 and under 1
     * @throws FormatException if one of the parts is left empty
     */
    public static TextCorpus split(
            String source, List<String> documents, double heldOutFraction, long seed)
            throws FormatException {
        var random = new SplittableRandom(seed);
        var training = new ByteArrayOutputStream();
        var heldOut = new ByteArrayOutputStream();
        int heldOutDocuments = 0;
        for (String document : documents) {
            boolean held = random.nextDouble() < heldOutFraction;
            heldOutDocuments += held ? 1 : 0;
            ByteArrayOutputStream part = held ? heldOut : training;
            part.write(DOCUMENT_START);
            part.writeBytes(document.getBytes(StandardCharsets.UTF_8));
        }
        if (training.size() == 0 || heldOut.size() == 0) {
            throw new FormatException(
                    source,
                    "%d documents leave %d bytes to train on and %d held out; both are needed"
                            .formatted(documents.size(), training.size(), heldOut.size()));
        }
        return new TextCorpus(
                training.toByteArray(), heldOut.toByteArray(), documents.size(), heldOutDocuments);
    }

    /**
     * The speeches of a file of Lucene's test framework: a gzip of lines, each a title, a date and
     * an excerpt from the European Parliament's proceedings, with tabs between them.
     *
     * @throws FormatException if a line is of another form
     */
    public static List<String> readEuroparl(Path path) throws IOException {
        List<String> documents = new ArrayList<>();
        try (InputStream file = Files.newInputStream(path);
                InputStream text = new GZIPInputStream(file)) {
            int number = 0;
            for (String line : decode(text.readAllBytes()).lines().toList()) {
                number++;
                String[] fields = line.split("\t", -1);
                if (fields.length != 3) {
                    throw new FormatException(
                            path.toString(),
                            "line %d has %d fields; title, date and text are expected"
                                    .formatted(number, fields.length));
                }
                documents.add(fields[0] + "\n\n" + fields[2].strip() + "\n");
            }
        }
        return documents;
    }

    /** The paragraphs of a UTF-8 text, which blank lines separate, as documents. */
    public static List<String> readParagraphs(Path path) throws IOException {
        List<String> documents = new ArrayList<>();
        for (String paragraph : decode(Files.readAllBytes(path)).split("\\R\\s*\\R")) {
            if (!paragraph.isBlank()) {
                documents.add(paragraph.strip() + "\n");
            }
        }
        return documents;
    }

    /** Replaces what is no UTF-8, and takes out byte 0, which starts a document. */
    private static String decode(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8).replace("\0", "");
    }
}
