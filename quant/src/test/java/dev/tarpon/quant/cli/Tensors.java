package dev.tarpon.quant.cli;

import dev.tarpon.HalfFloats;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.SafetensorsFile;
import dev.tarpon.format.SafetensorsWriter;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;

/** Tensors and files for the tests. */
final class Tensors {
    private Tensors() {}

    static HostTensor of(String name, ElementType type, float[] values, long... shape) {
        MemorySegment data =
                Arena.ofAuto().allocate(Math.max(1, (long) values.length * type.bytes()), 64);
        for (int i = 0; i < values.length; i++) {
            switch (type) {
                case F32 -> data.setAtIndex(ValueLayout.JAVA_FLOAT, i, values[i]);
                case F16 ->
                        data.setAtIndex(ValueLayout.JAVA_SHORT, i, HalfFloats.toFloat16(values[i]));
                case BF16 ->
                        data.setAtIndex(
                                ValueLayout.JAVA_SHORT, i, HalfFloats.toBFloat16(values[i]));
                case U8 -> data.setAtIndex(ValueLayout.JAVA_BYTE, i, (byte) values[i]);
                case I32 -> data.setAtIndex(ValueLayout.JAVA_INT, i, (int) values[i]);
                default -> throw new IllegalArgumentException(type.name());
            }
        }
        return new HostTensor(
                name, type, shape, data.asSlice(0, (long) values.length * type.bytes()));
    }

    static float[] random(long seed, int count) {
        var random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian() * 0.1f;
        }
        return values;
    }

    static float[] constant(float value, int count) {
        float[] values = new float[count];
        Arrays.fill(values, value);
        return values;
    }

    static Path write(Path path, HostTensor... tensors) throws IOException {
        var writer = new SafetensorsWriter();
        for (HostTensor tensor : tensors) {
            writer.add(tensor);
        }
        writer.write(path);
        return path;
    }

    /** A tensor of a file, in memory of its own. */
    static HostTensor read(Path path, String name) throws IOException {
        try (SafetensorsFile file = SafetensorsFile.open(path)) {
            HostTensor tensor = file.find(name).orElseThrow();
            MemorySegment copy = Arena.ofAuto().allocate(tensor.data().byteSize(), 64);
            return new HostTensor(
                    tensor.name(), tensor.type(), tensor.shape(), copy.copyFrom(tensor.data()));
        }
    }

    static byte[] bytes(HostTensor tensor) {
        return tensor.data().toArray(ValueLayout.JAVA_BYTE);
    }
}
