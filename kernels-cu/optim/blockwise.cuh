// Block-wise quantisation as an operation of its own: a warp to a block, two neighbouring elements
// a lane, so that the two codes of a byte of a 4-bit map are one lane's.
#pragma once

#include "optim/measure.cuh"

namespace tarpon::optim {

inline constexpr int kPair = 2;
inline constexpr int kWarpPairElems = kPair * layout::kWarpLanes;

struct BlockwiseStorage {
    CodeMap map;
};

TARPON_DEVICE void store_element(void *tensor, Dtype dtype, int64_t i, float value) {
    if (dtype == Dtype::kF32) {
        ptx::st_global(static_cast<float *>(tensor) + i, value);
    } else if (dtype == Dtype::kF16) {
        ptx::st_global(static_cast<half_t *>(tensor) + i, from_float<half_t>(value));
    } else {
        ptx::st_global(static_cast<bf16_t *>(tensor) + i, from_float<bf16_t>(value));
    }
}

// [warp] Quantises a block. map: p.map in shared memory.
TARPON_DEVICE void quantize_block(const BlockwiseParams &p, const CodeMap &map, int64_t block) {
    const bool halves = is_four_bit(map.kind);
    const int64_t base = block * p.block_elems;
    const int64_t end = base + p.block_elems < p.elems ? base + p.block_elems : p.elems;
    uint32_t largest = 0;
    for (int64_t i = base + ptx::lane_id(); i < end; i += layout::kWarpLanes) {
        const uint32_t bits = magnitude_bits(load_element(p.values, p.dtype, i));
        largest = bits > largest ? bits : largest;
    }
    const float absmax = lanes::as_float(largest_among(largest, layout::kWarpLanes));
    const float inverse = reciprocal_absmax(absmax);
    if (ptx::lane_id() == 0) ptx::st_global(p.absmax + block, absmax);
    for (int64_t i = base + kPair * ptx::lane_id(); i < end; i += kWarpPairElems) {
        uint32_t code[kPair] = {0, 0};
        for (int k = 0; k < kPair; ++k) {
            if (i + k >= end) continue;
            code[k] = encode(map, load_element(p.values, p.dtype, i + k) * inverse);
            if (!halves) ptx::st_global(p.codes + i + k, uint8_t(code[k]));
        }
        if (halves) ptx::st_global(p.codes + i / 2, uint8_t(code[0] << 4 | code[1]));
    }
}

// [warp] Likewise back.
TARPON_DEVICE void dequantize_block(const BlockwiseParams &p, const CodeMap &map, int64_t block) {
    const bool halves = is_four_bit(map.kind);
    const int64_t base = block * p.block_elems;
    const int64_t end = base + p.block_elems < p.elems ? base + p.block_elems : p.elems;
    const float absmax = ptx::ld_global(p.absmax + block);
    for (int64_t i = base + kPair * ptx::lane_id(); i < end; i += kWarpPairElems) {
        const uint32_t both = halves ? ptx::ld_global(p.codes + i / 2) : 0u;
        for (int k = 0; k < kPair; ++k) {
            if (i + k >= end) continue;
            const uint32_t code = !halves  ? uint32_t(ptx::ld_global(p.codes + i + k))
                                  : k == 0 ? both >> 4
                                           : both & 15u;
            store_element(p.values, p.dtype, i + k, decode(map, code) * absmax);
        }
    }
}

// [warp] Every kWarps-th block of every thread block.
template <class Body>
TARPON_DEVICE void for_each_block(int64_t blocks, Body body) {
    const int64_t warps = int64_t(ptx::grid_dim()) * kWarps;
    for (int64_t block = int64_t(ptx::block_idx()) * kWarps + ptx::warp_id(); block < blocks;
         block += warps) {
        body(block);
    }
}

// [block]
TARPON_DEVICE const CodeMap &load_map(const BlockwiseParams &p, BlockwiseStorage &storage) {
    copy_to_shared(p.map, &storage.map);
    ptx::sync_threads();
    return storage.map;
}

TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2) sm80_optim_quantize_kernel(BlockwiseParams p) {
    const CodeMap &map = load_map(p, shared_storage<BlockwiseStorage>());
    for_each_block(p.blocks, [&](int64_t block) { quantize_block(p, map, block); });
}

TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2)
    sm80_optim_dequantize_kernel(BlockwiseParams p) {
    const CodeMap &map = load_map(p, shared_storage<BlockwiseStorage>());
    for_each_block(p.blocks, [&](int64_t block) { dequantize_block(p, map, block); });
}

}  // namespace tarpon::optim
