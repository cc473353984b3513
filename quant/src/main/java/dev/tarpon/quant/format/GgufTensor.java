package dev.tarpon.quant.format;

import dev.tarpon.format.ElementType;
import dev.tarpon.format.HostTensor;
import dev.tarpon.format.Shapes;

import java.lang.foreign.MemorySegment;

/**
 * A tensor of a GGUF file.
 *
 * @param name its name in the file
 * @param type elements or blocks
 * @param shape dimensions in elements, outermost first (the file has them the other way round)
 * @param data a view of the mapped file, as many bytes as type and shape ask for
 */
public record GgufTensor(String name, GgmlType type, long[] shape, MemorySegment data) {
    @Override
    public long[] shape() {
        return shape.clone();
    }

    /** Whether it is a matrix with elements. */
    public boolean isMatrix() {
        return shape.length == 2 && shape[0] > 0 && shape[1] > 0;
    }

    /** Rows of a matrix: the output features of a linear layer. */
    public long rows() {
        return shape[0];
    }

    /** Columns of a matrix: the input features of a linear layer. */
    public long columns() {
        return shape[1];
    }

    /** The tensor as it is, or, if it has blocks, as their bytes: U8 [..., bytes of a row]. */
    public HostTensor toHost() {
        if (type.element().isPresent()) {
            return new HostTensor(name, type.element().get(), shape, data);
        }
        long[] bytes = shape.clone();
        int last = bytes.length - 1;
        bytes[last] = bytes[last] / type.blockElements() * type.blockBytes();
        return new HostTensor(name, ElementType.U8, bytes, data);
    }

    /** Type and shape as messages show them: Q4_0 [64, 256]. */
    public String description() {
        return type + " " + Shapes.text(shape);
    }
}
