package dev.tarpon.bench.linear;

import dev.tarpon.DType;
import dev.tarpon.HalfFloats;

import jcuda.Pointer;
import jcuda.Sizeof;
import jcuda.jcublas.JCublas2;
import jcuda.jcublas.cublasHandle;
import jcuda.runtime.JCuda;
import jcuda.runtime.cudaMemcpyKind;

import java.util.Arrays;
import java.util.Optional;

/** cuBLAS on the dequantised weights in 16 bits through JCuda's binding, with memory of its own. */
final class JCublasLinear implements LinearImplementation {
    private final cublasHandle handle = new cublasHandle();
    private final Pointer one = Pointer.to(new float[] {1});
    private final Pointer zero = Pointer.to(new float[] {0});
    private final int type;
    private final DType dtype;
    private final int rows;
    private final int inFeatures;
    private final int outFeatures;
    private final Pointer[] weights;
    private final Pointer x;
    private final Pointer y = new Pointer();

    JCublasLinear(LinearCase layer, SampleLayer sample, int sets) {
        JCuda.setExceptionsEnabled(true);
        JCublas2.setExceptionsEnabled(true);
        dtype = layer.dtype();
        type = dtype == DType.BF16 ? Cublas.R_16BF : Cublas.R_16F;
        rows = layer.rows();
        inFeatures = Math.toIntExact(layer.inFeatures());
        outFeatures = Math.toIntExact(layer.outFeatures());
        JCublas2.cublasCreate(handle);
        short[] dense = toSixteenBits(sample.weights().dequantize());
        weights = new Pointer[sets];
        Arrays.setAll(weights, i -> upload(dense));
        x = upload(toSixteenBits(sample.x()));
        JCuda.cudaMalloc(y, (long) rows * outFeatures * Sizeof.SHORT);
    }

    static Optional<String> unavailableReason() {
        try {
            JCublas2.initialize();
            return Optional.empty();
        } catch (UnsatisfiedLinkError missing) {
            String firstLine =
                    String.valueOf(missing.getMessage()).strip().lines().findFirst().orElse("");
            return Optional.of(
                    "JCublas 12.6 needs libcublas.so.12, which did not load: " + firstLine);
        }
    }

    private short[] toSixteenBits(float[] values) {
        short[] bits = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            bits[i] =
                    dtype == DType.BF16
                            ? HalfFloats.toBFloat16(values[i])
                            : Float.floatToFloat16(values[i]);
        }
        return bits;
    }

    private static Pointer upload(short[] values) {
        Pointer memory = new Pointer();
        long bytes = (long) values.length * Sizeof.SHORT;
        JCuda.cudaMalloc(memory, bytes);
        JCuda.cudaMemcpy(memory, Pointer.to(values), bytes, cudaMemcpyKind.cudaMemcpyHostToDevice);
        return memory;
    }

    @Override
    public void run(int set) {
        // Row-major y = x W is column-major y' = W' x': the transposes are free.
        JCublas2.cublasGemmEx_new(
                handle,
                Cublas.OP_N,
                Cublas.OP_N,
                outFeatures,
                rows,
                inFeatures,
                one,
                weights[set],
                type,
                outFeatures,
                x,
                type,
                inFeatures,
                zero,
                y,
                type,
                outFeatures,
                Cublas.COMPUTE_32F,
                Cublas.GEMM_DEFAULT);
    }

    @Override
    public void synchronize() {
        JCuda.cudaDeviceSynchronize();
    }

    @Override
    public int weightSets() {
        return weights.length;
    }

    @Override
    public float[] output() {
        short[] bits = new short[rows * outFeatures];
        JCuda.cudaMemcpy(
                Pointer.to(bits),
                y,
                (long) bits.length * Sizeof.SHORT,
                cudaMemcpyKind.cudaMemcpyDeviceToHost);
        float[] values = new float[bits.length];
        for (int i = 0; i < bits.length; i++) {
            values[i] =
                    dtype == DType.BF16
                            ? HalfFloats.fromBFloat16(bits[i])
                            : Float.float16ToFloat(bits[i]);
        }
        return values;
    }

    @Override
    public void close() {
        JCuda.cudaFree(y);
        JCuda.cudaFree(x);
        for (Pointer weight : weights) {
            JCuda.cudaFree(weight);
        }
        JCublas2.cublasDestroy(handle);
    }
}
