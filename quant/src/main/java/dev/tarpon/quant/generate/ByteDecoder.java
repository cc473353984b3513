package dev.tarpon.quant.generate;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/** Text from UTF-8 that comes byte by byte; what is no UTF-8 becomes U+FFFD. */
public final class ByteDecoder {
    private final CharsetDecoder decoder =
            StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPLACE)
                    .onUnmappableCharacter(CodingErrorAction.REPLACE);
    private final ByteBuffer pending = ByteBuffer.allocate(8);
    private final CharBuffer text = CharBuffer.allocate(8);

    /** What a further byte completes; "" in the middle of a character. */
    public String add(int value) {
        pending.put((byte) value).flip();
        decoder.decode(pending, text, false);
        pending.compact();
        return take();
    }

    /** What is left when no more bytes come. */
    public String finish() {
        pending.flip();
        decoder.decode(pending, text, true);
        decoder.flush(text);
        decoder.reset();
        pending.clear();
        return take();
    }

    private String take() {
        String result = text.flip().toString();
        text.clear();
        return result;
    }
}
