package dev.tarpon.bench.linear;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

import java.lang.foreign.Arena;
import java.util.Optional;

/** cuBLAS on the dequantised weights in 16 bits, bound without a third library. */
final class CublasLinear implements LinearImplementation {
    private final Cublas cublas = new Cublas();
    private final Cublas.Scalars scalars = new Cublas.Scalars(Arena.ofAuto());
    private final long handle = cublas.createHandle();
    private final int type;
    private final Device device;
    private final Stream stream;
    private final Tensor[] weights;
    private final Tensor x;
    private final Tensor y;

    CublasLinear(LinearCase layer, SampleLayer sample, int sets) {
        DType dtype = layer.dtype();
        type = dtype == DType.BF16 ? Cublas.R_16BF : Cublas.R_16F;
        device = layer.device().open(0);
        stream = device.wrapStream(0);
        float[] dense = sample.weights().dequantize();
        weights = new Tensor[sets];
        for (int i = 0; i < sets; i++) {
            weights[i] =
                    device.allocate(dtype, layer.inFeatures(), layer.outFeatures()).copyFrom(dense);
        }
        x = device.allocate(dtype, layer.rows(), layer.inFeatures()).copyFrom(sample.x());
        y = device.allocate(dtype, layer.rows(), layer.outFeatures());
    }

    static Optional<String> unavailableReason() {
        return Cublas.unavailableReason();
    }

    @Override
    public void run(int set) {
        // Row-major y = x W is column-major y' = W' x': the transposes are free.
        long[] shape = weights[set].shape();
        int in = (int) shape[0];
        int out = (int) shape[1];
        int rows = (int) x.shape()[0];
        cublas.gemm(
                handle,
                out,
                rows,
                in,
                type,
                scalars,
                weights[set].address(),
                x.address(),
                y.address());
    }

    @Override
    public void synchronize() {
        stream.synchronize();
    }

    @Override
    public int weightSets() {
        return weights.length;
    }

    @Override
    public float[] output() {
        return y.toFloatArray();
    }

    @Override
    public void close() {
        cublas.destroyHandle(handle);
        y.close();
        x.close();
        for (Tensor weight : weights) {
            weight.close();
        }
        stream.close();
        device.close();
    }
}
