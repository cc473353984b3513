package dev.tarpon.quant.kv;

import dev.tarpon.quant.train.TextCorpus;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;

/**
 * A text as a model of bytes reads it: documents end to end, each behind a byte 0.
 *
 * @param name what messages and files call it
 * @param sha256 of the bytes, by which a text is recognised
 * @param bytes the tokens
 */
public record ByteText(String name, String sha256, byte[] bytes) {
    /** What stands before each document. */
    public static final int DOCUMENT_START = 0;

    /** A text of bytes that are as training has them. */
    public static ByteText of(String name, byte[] bytes) {
        MessageDigest digest = Sha256.digest();
        digest.update(bytes);
        return new ByteText(name, Sha256.text(digest), bytes);
    }

    /** A UTF-8 file, whose documents blank lines separate. */
    public static ByteText read(Path path) throws IOException {
        var bytes = new ByteArrayOutputStream();
        for (String document : TextCorpus.readParagraphs(path)) {
            bytes.write(DOCUMENT_START);
            bytes.writeBytes(document.getBytes(StandardCharsets.UTF_8));
        }
        return of(path.getFileName().toString(), bytes.toByteArray());
    }

    /** The first tokens; fewer if the text is shorter. */
    public int[] tokens(int atMost) {
        int[] tokens = new int[Math.min(atMost, bytes.length)];
        for (int i = 0; i < tokens.length; i++) {
            tokens[i] = bytes[i] & 0xff;
        }
        return tokens;
    }
}
