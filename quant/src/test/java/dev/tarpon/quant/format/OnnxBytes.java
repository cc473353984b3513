package dev.tarpon.quant.format;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Writes the few protobuf messages of which the tests' ONNX models consist. */
final class OnnxBytes {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    static OnnxBytes message() {
        return new OnnxBytes();
    }

    OnnxBytes integer(int field, long value) {
        varint((long) field << 3);
        varint(value);
        return this;
    }

    OnnxBytes bytes(int field, byte[] value) {
        varint((long) field << 3 | 2);
        varint(value.length);
        out.writeBytes(value);
        return this;
    }

    OnnxBytes text(int field, String value) {
        return bytes(field, value.getBytes(StandardCharsets.UTF_8));
    }

    OnnxBytes message(int field, OnnxBytes value) {
        return bytes(field, value.toBytes());
    }

    byte[] toBytes() {
        return out.toByteArray();
    }

    private void varint(long value) {
        while ((value & ~0x7fL) != 0) {
            out.write((int) (value & 0x7f | 0x80));
            value >>>= 7;
        }
        out.write((int) value);
    }

    /** A TensorProto of floats in raw_data. */
    static OnnxBytes floats(String name, float[] values, long... dims) {
        ByteBuffer raw = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            raw.putFloat(value);
        }
        OnnxBytes tensor = message();
        for (long dim : dims) {
            tensor.integer(1, dim);
        }
        return tensor.integer(2, 1).text(8, name).bytes(9, raw.array());
    }

    static OnnxBytes node(String opType, String name, String output, String... inputs) {
        OnnxBytes node = message();
        for (String input : inputs) {
            node.text(1, input);
        }
        return node.text(2, output).text(3, name).text(4, opType);
    }

    static byte[] model(OnnxBytes graph) {
        return message().integer(1, 8).text(2, "test").message(7, graph).toBytes();
    }

    /** A MatMul with an anonymous weight and a named bias, and a Gemm with transB. */
    static byte[] twoLayerModel() {
        OnnxBytes transposed = message().text(1, "transB").integer(3, 1).integer(20, 2);
        OnnxBytes graph =
                message()
                        .message(1, node("MatMul", "/first/MatMul", "p", "x", "onnx::MatMul_7"))
                        .message(1, node("Add", "/first/Add", "y", "first.bias", "p"))
                        .message(
                                1,
                                node("Gemm", "/second/Gemm", "z", "y", "second.weight", "")
                                        .message(5, transposed))
                        .text(2, "graph")
                        .message(5, floats("onnx::MatMul_7", new float[] {1, 2, 3, 4, 5, 6}, 2, 3))
                        .message(5, floats("first.bias", new float[] {7, 8, 9}, 3))
                        .message(5, floats("second.weight", new float[] {1, 2, 3}, 1, 3));
        return model(graph);
    }
}
