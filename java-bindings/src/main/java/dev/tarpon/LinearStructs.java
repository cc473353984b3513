package dev.tarpon;

import dev.tarpon.ffi.tarpon_linear_desc;
import dev.tarpon.ffi.tarpon_linear_h;
import dev.tarpon.ffi.tarpon_linear_weights;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/** The structs of tarpon.h that describe weights, in native memory for one call. */
final class LinearStructs {
    private LinearStructs() {}

    /** A tarpon_linear_desc for the host's functions on weights. */
    static MemorySegment description(
            WeightFormat format, long outFeatures, long inFeatures, Arena arena) {
        MemorySegment desc = tarpon_linear_desc.allocate(arena);
        tarpon_linear_desc.weight_type(desc, format.weightType().id());
        tarpon_linear_desc.zero_type(desc, format.zeroType().id());
        tarpon_linear_desc.scale_type(desc, format.scaleTypeId());
        tarpon_linear_desc.group_size(desc, format.groupSize());
        tarpon_linear_desc.in_features(desc, inFeatures);
        tarpon_linear_desc.out_features(desc, outFeatures);
        return desc;
    }

    /** The same for a plan. */
    static MemorySegment description(
            WeightFormat format,
            long outFeatures,
            long inFeatures,
            LinearOptions options,
            Arena arena) {
        MemorySegment desc = description(format, outFeatures, inFeatures, arena);
        tarpon_linear_desc.activation_dtype(desc, options.activationDtype().id());
        tarpon_linear_desc.arithmetic(desc, options.arithmetic().id());
        tarpon_linear_desc.mode(desc, options.mode().id());
        tarpon_linear_desc.sparsity(desc, options.sparsity().id());
        if (options.variant() != null) {
            tarpon_linear_desc.variant(desc, arena.allocateFrom(options.variant()));
        }
        return desc;
    }

    /** A tarpon_linear_weights over native memory; scales, zeros and gIdx may be null. */
    static MemorySegment weights(
            int layout,
            MemorySegment qweight,
            MemorySegment scales,
            MemorySegment zeros,
            MemorySegment gIdx,
            Arena arena) {
        MemorySegment struct = tarpon_linear_weights.allocate(arena);
        fill(struct, layout, qweight, scales, zeros, gIdx);
        return struct;
    }

    /** An array of tarpon_linear_weights, with biases rounded to the dtype. */
    static MemorySegment parts(List<LinearPart> parts, DType dtype, Arena arena) {
        long bytes = tarpon_linear_weights.layout().byteSize();
        MemorySegment array =
                arena.allocate(
                        bytes * parts.size(), tarpon_linear_weights.layout().byteAlignment());
        for (int i = 0; i < parts.size(); i++) {
            LinearPart part = parts.get(i);
            QuantizedWeights weights = part.weights();
            MemorySegment struct = array.asSlice(i * bytes, bytes);
            struct.copyFrom(tarpon_linear_weights.allocate(arena));
            fill(
                    struct,
                    tarpon_linear_h.TARPON_LAYOUT_PLAIN,
                    weights.codes(),
                    weights.scales(),
                    weights.zeros().orElse(null),
                    weights.inputGroups().orElse(null));
            tarpon_linear_weights.out_features(struct, weights.outFeatures());
            if (part.bias() != null) {
                MemorySegment bias =
                        arena.allocate(weights.outFeatures() * dtype.bytes(), Long.BYTES);
                HostMemory.encode(part.bias(), dtype, bias);
                tarpon_linear_weights.bias(struct, bias);
                tarpon_linear_weights.bias_bytes(struct, bias.byteSize());
            }
        }
        return array;
    }

    private static void fill(
            MemorySegment struct,
            int layout,
            MemorySegment qweight,
            MemorySegment scales,
            MemorySegment zeros,
            MemorySegment gIdx) {
        tarpon_linear_weights.layout(struct, layout);
        tarpon_linear_weights.qweight(struct, qweight);
        tarpon_linear_weights.qweight_bytes(struct, qweight.byteSize());
        if (scales != null) {
            tarpon_linear_weights.scales(struct, scales);
            tarpon_linear_weights.scales_bytes(struct, scales.byteSize());
        }
        if (zeros != null) {
            tarpon_linear_weights.zeros(struct, zeros);
            tarpon_linear_weights.zeros_bytes(struct, zeros.byteSize());
        }
        if (gIdx != null) {
            tarpon_linear_weights.g_idx(struct, gIdx);
            tarpon_linear_weights.g_idx_bytes(struct, gIdx.byteSize());
        }
    }
}
