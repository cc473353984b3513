package dev.tarpon;

import dev.tarpon.ffi.tarpon_blockwise_h;

import java.util.Objects;

/**
 * Block-wise quantisation: values are cut into blocks, and each block is kept as codes of a {@link
 * CodeMap} and the largest magnitude, its absmax. value = map[code] * absmax.
 *
 * <p>The code is that of the value nearest to x / absmax; an x in the middle takes the lower one.
 * All devices give equal bits. Zeros stay zeros. A block with a NaN has absmax NaN and one with an
 * infinity absmax infinity; a block whose absmax is below 2^-126 is stored as zeros.
 *
 * <p>Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", section 2. Immutable
 * and thread-safe.
 *
 * @param map what the codes stand for
 * @param blockSize values that share an absmax: 64, 128, 256, 512, 1024, 2048 or 4096; the last
 *     block may be shorter
 */
public record BlockwiseQuantizer(CodeMap map, int blockSize) {
    /**
     * Checks the block size.
     *
     * @throws IllegalArgumentException if there is no such block size
     */
    public BlockwiseQuantizer {
        Objects.requireNonNull(map, "map");
        if (blockSize < 64 || blockSize > 4096 || Integer.bitCount(blockSize) != 1) {
            throw new IllegalArgumentException(
                    "blockSize is %d; it must be 64, 128, 256, 512, 1024, 2048 or 4096"
                            .formatted(blockSize));
        }
    }

    /** The elements of the codes' tensor for n values: n, or half of it for a 4-bit map. */
    public long codeBytes(long n) {
        return map.bits() == 8 ? n : Math.ceilDiv(n, 2L);
    }

    /** The number of blocks of n values, the elements of the absmax tensor. */
    public long blocks(long n) {
        return Math.ceilDiv(n, (long) blockSize);
    }

    /**
     * Queues the quantisation of all n elements of x, in row-major order.
     *
     * @param x n elements of F32, F16 or BF16, in any shape
     * @param codes U8, {@link #codeBytes codeBytes(n)} elements in any shape; overwritten. The
     *     first of the two codes of a 4-bit map is in the high half of its byte
     * @param absmax F32, {@link #blocks blocks(n)} elements in any shape; overwritten
     * @throws IllegalArgumentException if sizes, dtypes or devices disagree, or tensors overlap
     * @throws IllegalStateException if one of the arguments is closed
     * @throws TarponException if the library reports a failure
     */
    public void quantize(Tensor x, Tensor codes, Tensor absmax, Stream stream) {
        run(x, "x", codes, absmax, stream, true);
    }

    /**
     * Queues y[i] = map[codes[i]] * absmax[i / blockSize], rounded to y's dtype. Arguments are as
     * in {@link #quantize}; y is overwritten.
     */
    public void dequantize(Tensor codes, Tensor absmax, Tensor y, Stream stream) {
        run(y, "y", codes, absmax, stream, false);
    }

    private void run(
            Tensor values,
            String name,
            Tensor codes,
            Tensor absmax,
            Stream stream,
            boolean quantize) {
        Operands.requireFloating(name, values);
        Objects.requireNonNull(stream, "stream");
        requireElements("codes", codes, DType.U8, codeBytes(values.size()), name, values);
        requireElements("absmax", absmax, DType.F32, blocks(values.size()), name, values);
        Operands.requireDevice(stream.device(), name, values);
        Operands.requireDevice(stream.device(), "codes", codes);
        Operands.requireDevice(stream.device(), "absmax", absmax);
        Operands.acquire(values, codes, absmax);
        try {
            Operands.requireDisjoint(name, values, "codes", codes);
            Operands.requireDisjoint(name, values, "absmax", absmax);
            Operands.requireDisjoint("codes", codes, "absmax", absmax);
            StreamHandle handle = stream.handle();
            synchronized (handle) {
                long nativeStream = handle.requireOpen();
                long device = stream.device().handle().address();
                TarponException.check(
                        quantize
                                ? tarpon_blockwise_h.tarpon_blockwise_quantize(
                                        device,
                                        values.address(),
                                        values.dtype().id(),
                                        values.size(),
                                        map.id(),
                                        blockSize,
                                        codes.address(),
                                        absmax.address(),
                                        nativeStream)
                                : tarpon_blockwise_h.tarpon_blockwise_dequantize(
                                        device,
                                        codes.address(),
                                        absmax.address(),
                                        values.size(),
                                        map.id(),
                                        blockSize,
                                        values.address(),
                                        values.dtype().id(),
                                        nativeStream));
            }
            Operands.usedOn(stream, values, codes, absmax);
        } finally {
            Operands.release(values, codes, absmax);
        }
    }

    private void requireElements(
            String name, Tensor tensor, DType dtype, long elements, String of, Tensor values) {
        Objects.requireNonNull(tensor, name);
        if (tensor.dtype() != dtype || tensor.size() != elements) {
            throw new IllegalArgumentException(
                    "%s is %s; %s of %d elements with %s takes %s[%d]"
                            .formatted(name, tensor, of, values.size(), this, dtype, elements));
        }
    }
}
