package dev.tarpon.quant.format;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;

/** Damage to files, the same for the same seed. */
public final class Mutations {
    private static final String[] LITERALS = {
        "-1",
        "0",
        "1e9",
        "18446744073709551615",
        "9223372036854775807",
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"F16\"",
        "\"data_offsets\"",
        ",",
        ":",
        "}",
        "]",
        "\\u0000",
        "[[[[[[[[["
    };

    /** Sizes whose products and sums do not fit 32 or 64 bits. */
    private static final long[] SIZES = {
        -1,
        0,
        1,
        1 << 31,
        1L << 31,
        1L << 32,
        1L << 60,
        1L << 61,
        1L << 62,
        Long.MAX_VALUE,
        Long.MIN_VALUE,
        Long.MAX_VALUE - 31
    };

    private Mutations() {}

    /**
     * One to three of: flip a bit, set a byte, cut, repeat a piece, put a literal, set a number of
     * 8 bytes.
     */
    public static byte[] mutate(byte[] original, Random random) {
        byte[] bytes = original.clone();
        for (int times = 1 + random.nextInt(3); times > 0; times--) {
            if (bytes.length < 2) {
                return bytes;
            }
            int at = random.nextInt(bytes.length);
            switch (random.nextInt(6)) {
                case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> bytes[at] = (byte) random.nextInt(256);
                case 2 -> bytes = Arrays.copyOf(bytes, at);
                case 3 -> {
                    int from = random.nextInt(bytes.length);
                    int to = from + random.nextInt(bytes.length - from);
                    bytes = insert(bytes, at, Arrays.copyOfRange(bytes, from, to));
                }
                case 4 -> {
                    String literal = LITERALS[random.nextInt(LITERALS.length)];
                    bytes = insert(bytes, at, literal.getBytes(StandardCharsets.US_ASCII));
                }
                default -> setNumber(bytes, at, random);
            }
        }
        return bytes;
    }

    /** At the file's begin, where formats keep their sizes, or anywhere. */
    private static void setNumber(byte[] bytes, int at, Random random) {
        if (bytes.length < Long.BYTES) {
            return;
        }
        long number =
                random.nextBoolean()
                        ? random.nextLong() >> random.nextInt(64)
                        : SIZES[random.nextInt(SIZES.length)];
        int place = random.nextBoolean() ? 0 : Math.min(at, bytes.length - Long.BYTES);
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(place, number);
    }

    private static byte[] insert(byte[] bytes, int at, byte[] piece) {
        byte[] result = Arrays.copyOf(bytes, bytes.length + piece.length);
        System.arraycopy(piece, 0, result, at, piece.length);
        System.arraycopy(bytes, at, result, at + piece.length, bytes.length - at);
        return result;
    }
}
