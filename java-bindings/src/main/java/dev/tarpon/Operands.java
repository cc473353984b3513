package dev.tarpon;

import java.util.Objects;

/** What operations on a few tensors check and hold in the same way. */
final class Operands {
    private Operands() {}

    static void requireFloating(String name, Tensor tensor) {
        Objects.requireNonNull(tensor, name);
        switch (tensor.dtype()) {
            case F32, F16, BF16 -> {}
            case U8, I32 ->
                    throw new IllegalArgumentException(
                            "%s is %s; it must be of F32, F16 or BF16".formatted(name, tensor));
        }
    }

    static void requireDevice(Device device, String name, Tensor tensor) {
        if (tensor.device() != device) {
            throw new IllegalArgumentException(
                    "%s is %s, of another device than %s".formatted(name, tensor, device));
        }
    }

    /** The caller has acquired both. */
    static void requireDisjoint(String name, Tensor tensor, String otherName, Tensor other) {
        long begin = tensor.address();
        long otherBegin = other.address();
        if (begin < otherBegin + other.sizeBytes() && otherBegin < begin + tensor.sizeBytes()) {
            throw new IllegalArgumentException(
                    "%s at 0x%x (%s) overlaps %s at 0x%x (%s)"
                            .formatted(name, begin, tensor, otherName, otherBegin, other));
        }
    }

    /** Acquires all of them or, with an exception that names the first closed one, none. */
    static void acquire(Tensor... tensors) {
        int acquired = 0;
        try {
            for (; acquired < tensors.length; acquired++) {
                tensors[acquired].acquire();
            }
        } finally {
            if (acquired < tensors.length) {
                for (int i = 0; i < acquired; i++) {
                    tensors[i].release();
                }
            }
        }
    }

    static void release(Tensor... tensors) {
        for (Tensor tensor : tensors) {
            tensor.release();
        }
    }

    static void usedOn(Stream stream, Tensor... tensors) {
        for (Tensor tensor : tensors) {
            tensor.usedOn(stream);
        }
    }
}
