package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_h;

/** The block formats of GGUF files that Tarpon reads, bit-faithfully. */
public enum GgufType {
    /** 32 inputs in 18 bytes: (code - 8) * d. */
    Q4_0(tarpon_linear_h.TARPON_LAYOUT_GGUF_Q4_0, 32, 18, ZeroType.SYMMETRIC),
    /** 32 inputs in 20 bytes: code * d + m. */
    Q4_1(tarpon_linear_h.TARPON_LAYOUT_GGUF_Q4_1, 32, 20, ZeroType.FLOAT),
    /** 32 inputs in 34 bytes: int8 * d. */
    Q8_0(tarpon_linear_h.TARPON_LAYOUT_GGUF_Q8_0, 32, 34, ZeroType.SYMMETRIC),
    /** 256 inputs in 144 bytes, in eight groups: code * (d * scale) - dmin * minimum. */
    Q4_K(tarpon_linear_h.TARPON_LAYOUT_GGUF_Q4_K, 256, 144, ZeroType.FLOAT);

    private final int layout;
    private final int blockInputs;
    private final int blockBytes;
    private final ZeroType zeroType;

    GgufType(int layout, int blockInputs, int blockBytes, ZeroType zeroType) {
        this.layout = layout;
        this.blockInputs = blockInputs;
        this.blockBytes = blockBytes;
        this.zeroType = zeroType;
    }

    /** The layout's constant in tarpon.h. */
    int layout() {
        return layout;
    }

    /** Input features of a block; those of a layer are a multiple of it. */
    public int blockInputs() {
        return blockInputs;
    }

    public int blockBytes() {
        return blockBytes;
    }

    /** What the weights are once they are read: groups of 32. */
    public WeightFormat format() {
        return new WeightFormat(
                this == Q8_0 ? WeightType.INT8 : WeightType.INT4,
                zeroType,
                this == Q4_K ? DType.F32 : DType.F16,
                32);
    }

    /** The size of the blocks of a layer. */
    public long bytes(long outFeatures, long inFeatures) {
        return Math.multiplyExact(outFeatures, inFeatures / blockInputs * blockBytes);
    }
}
