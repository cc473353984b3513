package dev.tarpon.quant.demo;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The demo's sentences: pairs from paraphrase to unrelated, a resource of this jar. */
public final class SentencePairs {
    /** Two sentences whose similarity is of interest. */
    public record Pair(String first, String second) {}

    private static final String RESOURCE = "sentence-pairs.tsv";

    private SentencePairs() {}

    /** All pairs. */
    public static List<Pair> load() throws IOException {
        try (InputStream stream = SentencePairs.class.getResourceAsStream(RESOURCE)) {
            if (stream == null) {
                throw new IOException("resource " + RESOURCE + " is missing from the jar");
            }
            var reader = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8));
            var pairs = new ArrayList<Pair>();
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                if (line.isBlank() || line.startsWith("#")) {
                    continue;
                }
                String[] sentences = line.split("\t");
                if (sentences.length != 2) {
                    throw new IOException("%s: not a pair: %s".formatted(RESOURCE, line));
                }
                pairs.add(new Pair(sentences[0], sentences[1]));
            }
            return List.copyOf(pairs);
        }
    }
}
