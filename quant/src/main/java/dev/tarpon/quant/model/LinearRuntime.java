package dev.tarpon.quant.model;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.QuantizedLinear;
import dev.tarpon.QuantizedWeights;
import dev.tarpon.Stream;
import dev.tarpon.Tensor;

import java.util.HashMap;
import java.util.Map;

/**
 * Runs 4-bit linear layers on a device for a model whose activations are in Java arrays.
 *
 * <p>The layers of one runtime share a stream and the buffers for x and y, which is why they must
 * be used from one thread at a time. Close the layers first, then the runtime; the device stays the
 * caller's.
 */
public final class LinearRuntime implements AutoCloseable {
    private final Device device;
    private final Stream stream;
    private final DType activation;
    private final Map<Integer, Tensor> inputs = new HashMap<>();
    private final Map<Integer, Tensor> outputs = new HashMap<>();

    /**
     * A runtime on an open device.
     *
     * @param activation what x and y are converted to: F16, BF16, and on the CPU F32
     */
    public LinearRuntime(Device device, DType activation) {
        this.device = device;
        this.activation = activation;
        this.stream = device.createStream();
    }

    /** A layer with these weights. */
    public Linear linear(QuantizedWeights weights) {
        return new DeviceLinear(QuantizedLinear.create(device, weights, activation));
    }

    @Override
    public void close() {
        inputs.values().forEach(Tensor::close);
        outputs.values().forEach(Tensor::close);
        stream.close();
    }

    /** The buffer for a width, made anew when the batch changes. */
    private Tensor buffer(Map<Integer, Tensor> buffers, int rows, int width) {
        Tensor buffer = buffers.get(width);
        if (buffer == null || buffer.shape()[0] != rows) {
            Tensor fresh = device.allocate(activation, rows, width);
            buffers.put(width, fresh);
            if (buffer != null) {
                buffer.close();
            }
            return fresh;
        }
        return buffer;
    }

    private final class DeviceLinear implements Linear {
        private final QuantizedLinear linear;

        DeviceLinear(QuantizedLinear linear) {
            this.linear = linear;
        }

        @Override
        public void apply(float[] x, float[] y, int rows) {
            Tensor input = buffer(inputs, rows, inFeatures());
            Tensor output = buffer(outputs, rows, outFeatures());
            input.copyFrom(x);
            linear.forward(input, output, stream);
            stream.synchronize();
            System.arraycopy(output.toFloatArray(), 0, y, 0, y.length);
        }

        @Override
        public int inFeatures() {
            return Math.toIntExact(linear.inFeatures());
        }

        @Override
        public int outFeatures() {
            return Math.toIntExact(linear.outFeatures());
        }

        @Override
        public long weightBytes() {
            return linear.weightsBytes();
        }

        @Override
        public void close() {
            linear.close();
        }
    }
}
