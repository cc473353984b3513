package dev.tarpon.quant.format;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/**
 * Reads one protobuf message field by field from a memory segment.
 *
 * <p>Only the wire format: tags, varints, fixed-width numbers and length-delimited bytes; what a
 * field means is the caller's knowledge. Every length is checked against the enclosing message, so
 * that malformed input ends in an {@link OnnxException} with the position. Source: "Encoding" in
 * the Protocol Buffers documentation.
 */
final class ProtoReader {
    /** How a field's value is stored. */
    enum WireType {
        VARINT,
        FIXED64,
        BYTES,
        FIXED32
    }

    private static final ValueLayout.OfInt INT =
            ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG =
            ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int LONGEST_VARINT = 10;

    private final String source;
    private final MemorySegment message;
    private final long origin;
    private long position;
    private int field;
    private WireType wireType;

    /** Reads a whole file as one message. */
    ProtoReader(String source, MemorySegment file) {
        this(source, file, 0);
    }

    private ProtoReader(String source, MemorySegment message, long origin) {
        this.source = source;
        this.message = message;
        this.origin = origin;
    }

    /** Moves to the next field; false at the end of the message. */
    boolean next() throws OnnxException {
        if (position == message.byteSize()) {
            return false;
        }
        long tag = varint();
        if (tag >>> 3 == 0 || tag >>> 3 > 536_870_911L) {
            throw failure("field number %d is not one".formatted(tag >>> 3));
        }
        field = (int) (tag >>> 3);
        wireType =
                switch ((int) (tag & 7)) {
                    case 0 -> WireType.VARINT;
                    case 1 -> WireType.FIXED64;
                    case 2 -> WireType.BYTES;
                    case 5 -> WireType.FIXED32;
                    default ->
                            throw failure(
                                    "field %d has unknown wire type %d".formatted(field, tag & 7));
                };
        return true;
    }

    /** The number of the current field. */
    int field() {
        return field;
    }

    /** How the current field is stored; a repeated number comes as BYTES where it is packed. */
    WireType wireType() {
        return wireType;
    }

    /** Whether packed numbers are left; for a reader over a packed field. */
    boolean hasRemaining() {
        return position < message.byteSize();
    }

    /** Passes over the current field's value. */
    void skip() throws OnnxException {
        switch (wireType) {
            case VARINT -> varint();
            case FIXED64 -> advance(8);
            case FIXED32 -> advance(4);
            case BYTES -> bytes();
        }
    }

    /** The current field as an integer. */
    long readLong() throws OnnxException {
        expect(WireType.VARINT);
        return varint();
    }

    /** The current field as bytes: a view of the file. */
    MemorySegment readBytes() throws OnnxException {
        expect(WireType.BYTES);
        return bytes();
    }

    /** The current field as text. */
    String readString() throws OnnxException {
        MemorySegment bytes = readBytes();
        if (bytes.byteSize() > Integer.MAX_VALUE) {
            throw failure("text of %d bytes".formatted(bytes.byteSize()));
        }
        ByteBuffer buffer = bytes.asByteBuffer();
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(buffer).toString();
        } catch (CharacterCodingException e) {
            throw failure("text in field %d is not valid UTF-8".formatted(field));
        }
    }

    /** The current field as an embedded message, or as packed numbers. */
    ProtoReader readMessage() throws OnnxException {
        MemorySegment bytes = readBytes();
        return new ProtoReader(source, bytes, origin + position - bytes.byteSize());
    }

    /** The next varint at the current position. */
    long varint() throws OnnxException {
        long value = 0;
        for (int i = 0; i < LONGEST_VARINT; i++) {
            long at = advance(1);
            byte piece = message.get(ValueLayout.JAVA_BYTE, at);
            value |= (piece & 0x7fL) << (7 * i);
            if (piece >= 0) {
                return value;
            }
        }
        throw failure("number is longer than %d bytes".formatted(LONGEST_VARINT));
    }

    /** The next four bytes at the current position. */
    int fixed32() throws OnnxException {
        return message.get(INT, advance(4));
    }

    /** The next eight bytes at the current position. */
    long fixed64() throws OnnxException {
        return message.get(LONG, advance(8));
    }

    /** A failure at the current position. */
    OnnxException failure(String detail) {
        return new OnnxException(source, "at byte %d: %s".formatted(origin + position, detail));
    }

    private MemorySegment bytes() throws OnnxException {
        long length = varint();
        long start = advance(length);
        return message.asSlice(start, length);
    }

    private long advance(long count) throws OnnxException {
        long left = message.byteSize() - position;
        if (count < 0 || count > left) {
            throw failure(
                    "%s bytes are announced, but the message has %d left"
                            .formatted(Long.toUnsignedString(count), left));
        }
        long start = position;
        position += count;
        return start;
    }

    private void expect(WireType wanted) throws OnnxException {
        if (wireType != wanted) {
            throw failure(
                    "field %d is stored as %s, expected %s".formatted(field, wireType, wanted));
        }
    }
}
