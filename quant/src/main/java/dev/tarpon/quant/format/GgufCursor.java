package dev.tarpon.quant.format;

import dev.tarpon.format.Names;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** Reads the little-endian values of a GGUF header one after the other, within the file. */
final class GgufCursor {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT =
            ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG =
            ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** No key, name or text of a model comes near; it bounds what a damaged length can cost. */
    private static final long MAX_STRING_BYTES = 16L << 20;

    private static final int STRING = 8;
    private static final int ARRAY = 9;
    private static final String[] TYPE_NAMES = {
        "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64",
        "f64"
    };

    private final String source;
    private final MemorySegment file;
    private long position;

    GgufCursor(String source, MemorySegment file) {
        this.source = source;
        this.file = file;
    }

    long position() {
        return position;
    }

    long remaining() {
        return file.byteSize() - position;
    }

    private long take(String what, long bytes) throws GgufException {
        if (bytes > remaining()) {
            throw failure(
                    "%s at byte %d takes %d bytes; %d are left"
                            .formatted(what, position, bytes, remaining()));
        }
        long at = position;
        position += bytes;
        return at;
    }

    int readInt(String what) throws GgufException {
        return file.get(INT, take(what, Integer.BYTES));
    }

    long readLong(String what) throws GgufException {
        return file.get(LONG, take(what, Long.BYTES));
    }

    /** A count of things that take at least so many bytes each. */
    long readCount(String what, long bytesEach) throws GgufException {
        long count = readLong(what);
        if (count < 0 || count > remaining() / bytesEach) {
            throw failure(
                    "%s is %s, more than the %d bytes that follow can hold"
                            .formatted(what, Long.toUnsignedString(count), remaining()));
        }
        return count;
    }

    String readString(String what) throws GgufException {
        long length = readCount("the length of " + what, 1);
        if (length > MAX_STRING_BYTES) {
            throw failure(
                    "%s has %d bytes; the limit is %d".formatted(what, length, MAX_STRING_BYTES));
        }
        byte[] bytes = file.asSlice(take(what, length), length).toArray(ValueLayout.JAVA_BYTE);
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(java.nio.ByteBuffer.wrap(bytes))
                    .toString();
        } catch (CharacterCodingException e) {
            throw failure("%s, which ends at byte %d, is not UTF-8".formatted(what, position));
        }
    }

    /** The value of a key as text; of an array its type and length. */
    String readValue(String key) throws GgufException {
        String what = "the value of " + Names.quote(key);
        int type = readInt("the type of " + Names.quote(key));
        return type == ARRAY ? skipArray(what) : readScalar(what, type);
    }

    private String skipArray(String what) throws GgufException {
        int type = readInt("the element type of " + what);
        if (type == ARRAY) {
            throw failure(what + " is an array of arrays, which no model has");
        }
        int bytes = scalarBytes(what, type);
        long count = readCount("the length of " + what, type == STRING ? Long.BYTES : bytes);
        if (type == STRING) {
            for (long i = 0; i < count; i++) {
                take(what, readCount("the length of an element of " + what, 1));
            }
        } else {
            take(what, Math.multiplyExact(count, (long) bytes));
        }
        return "%s[%d]".formatted(TYPE_NAMES[type], count);
    }

    private String readScalar(String what, int type) throws GgufException {
        if (type == STRING) {
            return readString(what);
        }
        long at = take(what, scalarBytes(what, type));
        return switch (TYPE_NAMES[type]) {
            case "u8" -> Integer.toString(file.get(ValueLayout.JAVA_BYTE, at) & 0xff);
            case "i8" -> Byte.toString(file.get(ValueLayout.JAVA_BYTE, at));
            case "u16" -> Integer.toString(file.get(SHORT, at) & 0xffff);
            case "i16" -> Short.toString(file.get(SHORT, at));
            case "u32" -> Integer.toUnsignedString(file.get(INT, at));
            case "i32" -> Integer.toString(file.get(INT, at));
            case "f32" -> Float.toString(Float.intBitsToFloat(file.get(INT, at)));
            case "bool" -> Boolean.toString(file.get(ValueLayout.JAVA_BYTE, at) != 0);
            case "u64" -> Long.toUnsignedString(file.get(LONG, at));
            case "i64" -> Long.toString(file.get(LONG, at));
            default -> Double.toString(Double.longBitsToDouble(file.get(LONG, at)));
        };
    }

    /** The size of a scalar; 0 for a string, which has one of its own. */
    private int scalarBytes(String what, int type) throws GgufException {
        return switch (type) {
            case 0, 1, 7 -> 1;
            case 2, 3 -> 2;
            case 4, 5, 6 -> 4;
            case 10, 11, 12 -> 8;
            case STRING -> 0;
            default ->
                    throw failure(
                            "%s has type %s; GGUF has 0 to 12"
                                    .formatted(what, Integer.toUnsignedString(type)));
        };
    }

    GgufException failure(String detail) {
        return new GgufException(source, detail);
    }
}
