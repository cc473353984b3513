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

// [warp] Blocks [first, end) of this thread block's warps, a block at a time.
template <class Body>
TARPON_DEVICE void for_each_block(const BlockwiseParams &p, Body body) {
    const int64_t warps = int64_t(ptx::grid_dim()) * kWarps;
    for (int64_t block = int64_t(ptx::block_idx()) * kWarps + ptx::warp_id(); block < p.blocks;
         block += warps) {
        const int64_t base = block * p.block_elems;
        const int64_t left = p.elems - base;
        body(block, base, base + (left < p.block_elems ? left : p.block_elems));
    }
}

TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2) sm80_optim_quantize_kernel(BlockwiseParams p) {
    auto &storage = shared_storage<BlockwiseStorage>();
    copy_to_shared(p.map, &storage.map);
    ptx::sync_threads();
    const CodeMap &map = storage.map;
    const bool halves = is_four_bit(map.kind);
    for_each_block(p, [&](int64_t block, int64_t base, int64_t end) {
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
    });
}

TARPON_DEVICE void store_element(void *tensor, Dtype dtype, int64_t i, float value) {
    if (dtype == Dtype::kF32) {
        ptx::st_global(static_cast<float *>(tensor) + i, value);
    } else if (dtype == Dtype::kF16) {
        ptx::st_global(static_cast<half_t *>(tensor) + i, from_float<half_t>(value));
    } else {
        ptx::st_global(static_cast<bf16_t *>(tensor) + i, from_float<bf16_t>(value));
    }
}

TARPON_KERNEL void TARPON_LAUNCH_BOUNDS(kThreads, 2)
    sm80_optim_dequantize_kernel(BlockwiseParams p) {
    auto &storage = shared_storage<BlockwiseStorage>();
    copy_to_shared(p.map, &storage.map);
    ptx::sync_threads();
    const CodeMap &map = storage.map;
    const bool halves = is_four_bit(map.kind);
    for_each_block(p, [&](int64_t block, int64_t base, int64_t end) {
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
    });
}

}  // namespace tarpon::optim
