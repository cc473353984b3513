package dev.tarpon.quant.format;

import dev.tarpon.GgufType;
import dev.tarpon.format.ElementType;

import java.util.Optional;

/**
 * Tensor types of GGUF files: elements, or blocks of elements along a row. Source: ggml_type and
 * the block structs of ggml-org/ggml.
 */
public enum GgmlType {
    F32(0, ElementType.F32),
    F16(1, ElementType.F16),
    Q4_0(2, GgufType.Q4_0),
    Q4_1(3, GgufType.Q4_1),
    Q5_0(6, 32, 22),
    Q5_1(7, 32, 24),
    Q8_0(8, GgufType.Q8_0),
    Q8_1(9, 32, 36),
    Q2_K(10, 256, 84),
    Q3_K(11, 256, 110),
    Q4_K(12, GgufType.Q4_K),
    Q5_K(13, 256, 176),
    Q6_K(14, 256, 210),
    Q8_K(15, 256, 292),
    IQ2_XXS(16, 256, 66),
    IQ2_XS(17, 256, 74),
    IQ3_XXS(18, 256, 98),
    IQ1_S(19, 256, 50),
    IQ4_NL(20, 32, 18),
    IQ3_S(21, 256, 110),
    IQ2_S(22, 256, 82),
    IQ4_XS(23, 256, 136),
    I8(24, ElementType.I8),
    I16(25, ElementType.I16),
    I32(26, ElementType.I32),
    I64(27, ElementType.I64),
    F64(28, ElementType.F64),
    IQ1_M(29, 256, 56),
    BF16(30, ElementType.BF16),
    TQ1_0(34, 256, 54),
    TQ2_0(35, 256, 66),
    MXFP4(39, 32, 17);

    private final int id;
    private final int blockElements;
    private final int blockBytes;
    private final ElementType element;
    private final GgufType blocks;

    GgmlType(int id, int blockElements, int blockBytes, ElementType element, GgufType blocks) {
        this.id = id;
        this.blockElements = blockElements;
        this.blockBytes = blockBytes;
        this.element = element;
        this.blocks = blocks;
    }

    GgmlType(int id, int blockElements, int blockBytes) {
        this(id, blockElements, blockBytes, null, null);
    }

    GgmlType(int id, ElementType element) {
        this(id, 1, element.bytes(), element, null);
    }

    GgmlType(int id, GgufType blocks) {
        this(id, blocks.blockInputs(), blocks.blockBytes(), null, blocks);
    }

    /** The type with this number in files. */
    static Optional<GgmlType> of(int id) {
        for (GgmlType type : values()) {
            if (type.id == id) {
                return Optional.of(type);
            }
        }
        return Optional.empty();
    }

    /** Elements of a block, 1 for plain elements; a row is a whole number of blocks. */
    public int blockElements() {
        return blockElements;
    }

    public int blockBytes() {
        return blockBytes;
    }

    /** The type of plain elements; empty for blocks. */
    public Optional<ElementType> element() {
        return Optional.ofNullable(element);
    }

    /** The blocks that Tarpon computes with; empty for elements and other blocks. */
    public Optional<GgufType> blocks() {
        return Optional.ofNullable(blocks);
    }
}
