package dev.tarpon.quant.op;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Stream;
import dev.tarpon.TarponException;
import dev.tarpon.Tensor;
import dev.tarpon.format.ElementType;
import dev.tarpon.format.FormatException;
import dev.tarpon.format.HostTensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Tensors between files and devices, as operations need them. */
final class OpTensors {
    /** The types of activations, parameters and gradients. */
    static final ElementType[] FLOATS = {ElementType.F32, ElementType.F16, ElementType.BF16};

    private OpTensors() {}

    /** A copy on the device, in the same shape. */
    static Tensor upload(Device device, HostTensor tensor) {
        Tensor copy = device.allocate(dtype(tensor.type()), tensor.shape());
        try {
            return copy.copyFrom(tensor.data());
        } catch (RuntimeException exception) {
            copy.close();
            throw exception;
        }
    }

    /** A copy on the host, in memory of the arena, of a tensor that is written on the stream. */
    static HostTensor download(Arena arena, String name, Tensor tensor, Stream stream) {
        MemorySegment data = arena.allocate(tensor.sizeBytes(), 64);
        tensor.copyTo(data, stream);
        return new HostTensor(name, elementType(tensor.dtype()), tensor.shape(), data);
    }

    static DType dtype(ElementType type) {
        return switch (type) {
            case U8 -> DType.U8;
            case I32 -> DType.I32;
            default -> WeightReader.dtype(type);
        };
    }

    static ElementType elementType(DType dtype) {
        return ElementType.valueOf(dtype.name());
    }

    /** Runs a call; what the library refuses becomes a complaint about the tensor. */
    static void named(TensorInputs inputs, String tensor, Runnable call) throws FormatException {
        try {
            call.run();
        } catch (TarponException e) {
            switch (e.status()) {
                case INVALID_ARGUMENT, UNSUPPORTED ->
                        throw inputs.failure(tensor, "is refused: %s", e.getMessage());
                default -> throw e;
            }
        }
    }
}
