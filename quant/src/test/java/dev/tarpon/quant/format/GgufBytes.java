package dev.tarpon.quant.format;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Builds GGUF files for tests, byte by byte from the format's description. */
public final class GgufBytes {
    private record Tensor(String name, int type, long[] dimensions, byte[] data) {}

    private final ByteArrayOutputStream metadata = new ByteArrayOutputStream();
    private final List<Tensor> tensors = new ArrayList<>();
    private int entries;
    private int version = 3;
    private int alignment = 32;

    private static byte[] number(long value, int bytes) {
        byte[] all = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(value).array();
        return java.util.Arrays.copyOf(all, bytes);
    }

    private static byte[] string(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        var out = new ByteArrayOutputStream();
        out.writeBytes(number(utf8.length, 8));
        out.writeBytes(utf8);
        return out.toByteArray();
    }

    /** A metadata entry of any type, with its encoded value. */
    public GgufBytes entry(String key, int type, byte[] value) {
        metadata.writeBytes(string(key));
        metadata.writeBytes(number(type, 4));
        metadata.writeBytes(value);
        entries++;
        return this;
    }

    public GgufBytes text(String key, String value) {
        return entry(key, 8, string(value));
    }

    public GgufBytes u32(String key, int value) {
        return entry(key, 4, number(value, 4));
    }

    public GgufBytes strings(String key, String... values) {
        var out = new ByteArrayOutputStream();
        out.writeBytes(number(8, 4));
        out.writeBytes(number(values.length, 8));
        for (String value : values) {
            out.writeBytes(string(value));
        }
        return entry(key, 9, out.toByteArray());
    }

    public GgufBytes alignment(int bytes) {
        alignment = bytes;
        return u32("general.alignment", bytes);
    }

    public GgufBytes version(int number) {
        version = number;
        return this;
    }

    /** A tensor; dimensions innermost first, as the file has them. */
    public GgufBytes tensor(String name, int type, byte[] data, long... dimensions) {
        tensors.add(new Tensor(name, type, dimensions, data));
        return this;
    }

    public byte[] build() {
        var out = new ByteArrayOutputStream();
        out.writeBytes("GGUF".getBytes(StandardCharsets.US_ASCII));
        out.writeBytes(number(version, 4));
        out.writeBytes(number(tensors.size(), 8));
        out.writeBytes(number(entries, 8));
        out.writeBytes(metadata.toByteArray());
        var data = new ByteArrayOutputStream();
        for (Tensor tensor : tensors) {
            data.writeBytes(new byte[padding(data.size())]);
            out.writeBytes(string(tensor.name));
            out.writeBytes(number(tensor.dimensions.length, 4));
            for (long dimension : tensor.dimensions) {
                out.writeBytes(number(dimension, 8));
            }
            out.writeBytes(number(tensor.type, 4));
            out.writeBytes(number(data.size(), 8));
            data.writeBytes(tensor.data);
        }
        out.writeBytes(new byte[padding(out.size())]);
        out.writeBytes(data.toByteArray());
        return out.toByteArray();
    }

    private int padding(int size) {
        return (alignment - size % alignment) % alignment;
    }
}
