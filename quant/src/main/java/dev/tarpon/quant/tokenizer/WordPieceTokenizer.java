package dev.tarpon.quant.tokenizer;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;

import dev.tarpon.format.FormatException;
import dev.tarpon.format.Names;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * BERT's WordPiece tokeniser, read from a model's tokenizer.json.
 *
 * <p>Text is normalised, cut at white space and around punctuation, and each word is split into the
 * longest pieces of the vocabulary; pieces inside a word begin with ##. A word that cannot be split
 * becomes the unknown token. The result begins with [CLS], ends with [SEP], and is cut to the
 * length that the file asks for. Immutable and thread-safe.
 *
 * <p>Sources: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
 * Understanding"; the behaviour of huggingface/tokenizers.
 */
public final class WordPieceTokenizer {
    private static final String CLASSIFY = "[CLS]";
    private static final String SEPARATE = "[SEP]";

    private final Map<String, Integer> vocabulary;
    private final BertNormalizer normalizer;
    private final Pattern specialTokens;
    private final String continuation;
    private final int unknown;
    private final int classify;
    private final int separate;
    private final int longestWord;
    private final int maxLength;

    private WordPieceTokenizer(JsonObject root) {
        JsonObject model = root.getAsJsonObject("model");
        requireType("model", model, "WordPiece");
        requireType("pre_tokenizer", root.getAsJsonObject("pre_tokenizer"), "BertPreTokenizer");
        JsonObject bert = root.getAsJsonObject("normalizer");
        requireType("normalizer", bert, "BertNormalizer");
        vocabulary = new HashMap<>();
        model.getAsJsonObject("vocab")
                .entrySet()
                .forEach(entry -> vocabulary.put(entry.getKey(), entry.getValue().getAsInt()));
        boolean lowercase = bert.get("lowercase").getAsBoolean();
        JsonElement stripAccents = bert.get("strip_accents");
        normalizer =
                new BertNormalizer(
                        bert.get("clean_text").getAsBoolean(),
                        bert.get("handle_chinese_chars").getAsBoolean(),
                        // Absent or null: accents go if the case goes.
                        stripAccents == null || stripAccents.isJsonNull()
                                ? lowercase
                                : stripAccents.getAsBoolean(),
                        lowercase);
        continuation = model.get("continuing_subword_prefix").getAsString();
        longestWord = model.get("max_input_chars_per_word").getAsInt();
        unknown = id(model.get("unk_token").getAsString());
        classify = id(CLASSIFY);
        separate = id(SEPARATE);
        specialTokens = specialTokens(root);
        JsonElement truncation = root.get("truncation");
        maxLength =
                truncation == null || truncation.isJsonNull()
                        ? Integer.MAX_VALUE
                        : truncation.getAsJsonObject().get("max_length").getAsInt();
        if (maxLength < 2) {
            throw new JsonParseException("truncation.max_length " + maxLength + " is under 2");
        }
    }

    /**
     * Reads a tokenizer.json.
     *
     * @throws FormatException if it is not a BERT WordPiece tokeniser
     * @throws IOException if it cannot be read
     */
    public static WordPieceTokenizer load(Path file) throws IOException {
        try (Reader reader = Files.newBufferedReader(file)) {
            return new WordPieceTokenizer(JsonParser.parseReader(reader).getAsJsonObject());
        } catch (JsonParseException
                | IllegalStateException
                | NullPointerException
                | ClassCastException
                | NumberFormatException e) {
            throw new FormatException(
                    file.toString(), "not a BERT tokenizer.json: " + e.getMessage(), e);
        }
    }

    /** The ids of a text, with [CLS] and [SEP], at most {@link #maxLength()} of them. */
    public int[] encode(String text) {
        List<Integer> ids = new ArrayList<>();
        ids.add(classify);
        Matcher special = specialTokens.matcher(text);
        int begin = 0;
        while (special.find()) {
            appendText(ids, text.substring(begin, special.start()));
            ids.add(id(special.group()));
            begin = special.end();
        }
        appendText(ids, text.substring(begin));
        int kept = Math.min(ids.size(), maxLength - 1);
        int[] result = new int[kept + 1];
        for (int i = 0; i < kept; i++) {
            result[i] = ids.get(i);
        }
        result[kept] = separate;
        return result;
    }

    /** The longest sequence that {@link #encode} gives. */
    public int maxLength() {
        return maxLength;
    }

    private void appendText(List<Integer> ids, String text) {
        var word = new StringBuilder();
        normalizer
                .normalize(text)
                .codePoints()
                .forEach(
                        c -> {
                            boolean punctuation = Characters.isPunctuation(c);
                            if (punctuation || Characters.isWhitespace(c)) {
                                appendWord(ids, word.toString());
                                word.setLength(0);
                                if (punctuation) {
                                    appendWord(ids, Character.toString(c));
                                }
                            } else {
                                word.appendCodePoint(c);
                            }
                        });
        appendWord(ids, word.toString());
    }

    /** Splits a word greedily, the longest piece first. */
    private void appendWord(List<Integer> ids, String word) {
        if (word.isEmpty()) {
            return;
        }
        if (word.codePointCount(0, word.length()) > longestWord) {
            ids.add(unknown);
            return;
        }
        int before = ids.size();
        int begin = 0;
        while (begin < word.length()) {
            int end = word.length();
            Integer piece = null;
            while (end > begin) {
                String candidate = word.substring(begin, end);
                piece = vocabulary.get(begin == 0 ? candidate : continuation + candidate);
                if (piece != null) {
                    break;
                }
                end = word.offsetByCodePoints(end, -1);
            }
            if (piece == null) {
                ids.subList(before, ids.size()).clear();
                ids.add(unknown);
                return;
            }
            ids.add(piece);
            begin = end;
        }
    }

    private int id(String token) {
        Integer id = vocabulary.get(token);
        if (id == null) {
            throw new JsonParseException("the vocabulary lacks " + Names.quote(token));
        }
        return id;
    }

    /** Tokens such as [MASK] stand for themselves where they appear in a text. */
    private static Pattern specialTokens(JsonObject root) {
        List<String> contents = new ArrayList<>();
        root.getAsJsonArray("added_tokens")
                .forEach(
                        token ->
                                contents.add(token.getAsJsonObject().get("content").getAsString()));
        if (contents.isEmpty()) {
            return Pattern.compile("(?!)");
        }
        return Pattern.compile(
                contents.stream().map(Pattern::quote).collect(Collectors.joining("|")));
    }

    private static void requireType(String part, JsonObject object, String wanted) {
        String found = object == null ? "none" : object.get("type").getAsString();
        if (!found.equals(wanted)) {
            throw new JsonParseException(
                    "%s has type %s, expected %s".formatted(part, Names.quote(found), wanted));
        }
    }
}
