package dev.tarpon.quant.format;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Names;
import dev.tarpon.format.Shapes;

import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads an ONNX TensorProto.
 *
 * <p>Exporters keep the elements in raw_data, of which this gives a view, or in a typed repeated
 * field, which is copied into the arena. Field numbers: onnx.proto3, message TensorProto.
 */
final class OnnxTensorReader {
    private static final int DIMS = 1;
    private static final int DATA_TYPE = 2;
    private static final int SEGMENT = 3;
    private static final int FLOAT_DATA = 4;
    private static final int INT32_DATA = 5;
    private static final int STRING_DATA = 6;
    private static final int INT64_DATA = 7;
    private static final int NAME = 8;
    private static final int RAW_DATA = 9;
    private static final int DOUBLE_DATA = 10;
    private static final int UINT64_DATA = 11;
    private static final int DATA_LOCATION = 14;
    private static final int MOST_DIMENSIONS = 64;

    /** Elements in typed fields are gathered on the heap, of which they may take an eighth. */
    private static final long MOST_TYPED_BYTES =
            Math.min(1L << 30, Runtime.getRuntime().maxMemory() / 8);

    private final ProtoReader proto;
    private final Arena arena;
    private final List<Long> dims = new ArrayList<>();
    private final ByteArrayOutputStream typed = new ByteArrayOutputStream();
    private String name = "";
    private long dataType;
    private MemorySegment raw;
    private int typedField;

    private OnnxTensorReader(ProtoReader proto, Arena arena) {
        this.proto = proto;
        this.arena = arena;
    }

    static HostTensor read(ProtoReader proto, Arena arena) throws OnnxException {
        return new OnnxTensorReader(proto, arena).read();
    }

    private HostTensor read() throws OnnxException {
        while (proto.next()) {
            switch (proto.field()) {
                case DIMS -> readDims();
                case DATA_TYPE -> dataType = proto.readLong();
                case NAME -> name = proto.readString();
                case RAW_DATA -> raw = proto.readBytes();
                case FLOAT_DATA, INT32_DATA, INT64_DATA, DOUBLE_DATA, UINT64_DATA -> readTyped();
                case DATA_LOCATION -> {
                    if (proto.readLong() != 0) {
                        throw failure("its data is in another file, which is not supported");
                    }
                }
                case SEGMENT, STRING_DATA ->
                        throw failure(
                                "field %d (segments or strings) is not supported"
                                        .formatted(proto.field()));
                default -> proto.skip();
            }
        }
        return finish();
    }

    private void readDims() throws OnnxException {
        if (proto.wireType() == ProtoReader.WireType.BYTES) {
            for (ProtoReader packed = proto.readMessage(); packed.hasRemaining(); ) {
                addDim(packed.varint());
            }
        } else {
            addDim(proto.readLong());
        }
    }

    private void addDim(long dim) throws OnnxException {
        if (dims.size() == MOST_DIMENSIONS) {
            throw failure("it has more than %d dimensions".formatted(MOST_DIMENSIONS));
        }
        if (dim < 0) {
            throw failure("dimension %d is %d".formatted(dims.size(), dim));
        }
        dims.add(dim);
    }

    /** Collects little-endian elements; the data type is checked once all fields are known. */
    private void readTyped() throws OnnxException {
        if (typedField != 0 && typedField != proto.field()) {
            throw failure("it has data in fields %d and %d".formatted(typedField, proto.field()));
        }
        typedField = proto.field();
        switch (proto.wireType()) {
            case BYTES -> {
                for (ProtoReader packed = proto.readMessage(); packed.hasRemaining(); ) {
                    appendElement(packed);
                }
            }
            default -> appendElement(proto);
        }
    }

    private void appendElement(ProtoReader reader) throws OnnxException {
        switch (typedField) {
            case FLOAT_DATA -> append(reader.fixed32(), 4);
            case DOUBLE_DATA -> append(reader.fixed64(), 8);
            // How wide an element of int32_data is depends on the data type, which may come later.
            default -> append(reader.varint(), 8);
        }
    }

    private void append(long bits, int bytes) throws OnnxException {
        if (typed.size() > MOST_TYPED_BYTES) {
            throw failure(
                    "it has more than %d bytes in field %d; use raw_data"
                            .formatted(MOST_TYPED_BYTES, typedField));
        }
        for (int i = 0; i < bytes; i++) {
            typed.write((int) (bits >>> (8 * i)));
        }
    }

    private HostTensor finish() throws OnnxException {
        ElementType type = elementType();
        long[] shape = dims.stream().mapToLong(Long::longValue).toArray();
        long expected;
        try {
            expected = Math.multiplyExact(Shapes.elements(shape), (long) type.bytes());
        } catch (ArithmeticException e) {
            throw failure("shape %s is larger than any file".formatted(Shapes.text(shape)));
        }
        if (raw != null && typedField != 0) {
            throw failure("it has raw_data and data in field %d".formatted(typedField));
        }
        MemorySegment data = raw != null ? raw : narrowTyped(type);
        if (data.byteSize() != expected) {
            throw failure(
                    "%s %s needs %d bytes, but it holds %d"
                            .formatted(type, Shapes.text(shape), expected, data.byteSize()));
        }
        return new HostTensor(name, type, shape, data);
    }

    /** Copies typed elements to the arena in the width of the element type. */
    private MemorySegment narrowTyped(ElementType type) throws OnnxException {
        int storedBytes = typedField == FLOAT_DATA ? 4 : 8;
        boolean fits =
                switch (typedField) {
                    case 0 -> true;
                    case FLOAT_DATA -> type == ElementType.F32;
                    case DOUBLE_DATA -> type == ElementType.F64;
                    case INT64_DATA -> type == ElementType.I64;
                    case UINT64_DATA -> type == ElementType.U64 || type == ElementType.U32;
                    default -> type.bytes() < 4 || type == ElementType.I32;
                };
        if (!fits) {
            throw failure("type %s cannot be in field %d".formatted(type, typedField));
        }
        ByteBuffer stored = ByteBuffer.wrap(typed.toByteArray()).order(ByteOrder.LITTLE_ENDIAN);
        int count = stored.remaining() / storedBytes;
        MemorySegment data = arena.allocate(Math.max(1, (long) count * type.bytes()), 64);
        ByteBuffer target = data.asByteBuffer();
        for (int i = 0; i < count; i++) {
            target.put(stored.slice(i * storedBytes, type.bytes()));
        }
        return data.asSlice(0, (long) count * type.bytes());
    }

    /** TensorProto.DataType. */
    private ElementType elementType() throws OnnxException {
        return switch (Math.toIntExact(Math.clamp(dataType, -1, 255))) {
            case 1 -> ElementType.F32;
            case 2 -> ElementType.U8;
            case 3 -> ElementType.I8;
            case 4 -> ElementType.U16;
            case 5 -> ElementType.I16;
            case 6 -> ElementType.I32;
            case 7 -> ElementType.I64;
            case 9 -> ElementType.BOOL;
            case 10 -> ElementType.F16;
            case 11 -> ElementType.F64;
            case 12 -> ElementType.U32;
            case 13 -> ElementType.U64;
            case 16 -> ElementType.BF16;
            default -> throw failure("data type %d is not supported".formatted(dataType));
        };
    }

    private OnnxException failure(String detail) {
        return proto.failure("initializer %s: %s".formatted(Names.quote(name), detail));
    }
}
