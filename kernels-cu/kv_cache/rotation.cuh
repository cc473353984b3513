// Keys of several heads rotated together, mode rotatekv, in the registers of a warp: for append and
// dequantize. Sums have the order of hadamard/ref.h, so that codes agree bit for bit.
#pragma once

#include "kv_cache/vector.cuh"

namespace tarpon::kv_cache {

// The channels of kHeads heads as a matrix: its columns are lanes, its rows registers. With the
// base matrix of head_dim 96 there are fewer columns than lanes, and lanes repeat them.
template <int kHeadDim, int kHeads>
struct RotationVector {
    static constexpr int kChannels = kHeadDim * kHeads;
    static constexpr int kBase = HeadVector<kHeadDim>::kBase;
    static constexpr int kColumns = kBase > 1 ? kChannels / kBase : 32;
    static constexpr int kRows = kChannels / kColumns;
    static_assert(kColumns <= 32 && kRows <= 32 && (kBase == 1 || kRows == kBase));

    float x[kRows];

    static TARPON_DEVICE bool owns() { return ptx::lane_id() < kColumns; }
    static TARPON_DEVICE int channel(int row) { return row * kColumns + ptx::lane_id() % kColumns; }
};

// Multiplies a column of kBase values by the base matrix.
template <int kBase>
TARPON_DEVICE void multiply_base(const uint32_t (&rows)[kBaseRows], float (&x)[kBase]) {
    static_assert(kBase == kBaseRows);
    float in[kBase];
    TARPON_UNROLL
    for (int j = 0; j < kBase; ++j)
        in[j] = x[j];
    TARPON_UNROLL
    for (int i = 0; i < kBase; ++i) {
        float sum = 0;
        TARPON_UNROLL
        for (int j = 0; j < kBase; ++j) {
            const float term = rows[i] >> j & 1 ? -in[j] : in[j];
            sum = j == 0 ? term : sum + term;
        }
        x[i] = sum;
    }
}

// [warp] H x.
template <int kHeadDim, int kHeads>
TARPON_DEVICE void rotate_heads(const PlanParams &plan, RotationVector<kHeadDim, kHeads> &v) {
    using Vector = RotationVector<kHeadDim, kHeads>;
    TARPON_UNROLL
    for (int mask = 1; mask < Vector::kColumns; mask *= 2)
        hadamard::lane_stage<Vector::kRows>(v.x, mask);
    if constexpr (Vector::kBase > 1) {
        multiply_base(plan.base_rows, v.x);
    } else {
        hadamard::register_stages<1, Vector::kRows, Vector::kRows>(v.x);
    }
    TARPON_UNROLL
    for (int i = 0; i < Vector::kRows; ++i)
        v.x[i] = mul_rn(v.x[i], plan.key_rotation_scale);
}

// Calls body(std::integral_constant<int, heads>) for 1, 2 or 4 heads.
template <class Body>
TARPON_DEVICE void with_rotation_heads(int heads, Body body) {
    switch (heads) {
        case 1:
            return body(std::integral_constant<int, 1>{});
        case 2:
            return body(std::integral_constant<int, 2>{});
        default:
            return body(std::integral_constant<int, 4>{});
    }
}

}  // namespace tarpon::kv_cache
