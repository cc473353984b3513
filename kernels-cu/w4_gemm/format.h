// The weight formats that the kernels are compiled for. Plain host C++; kernels read the constants.
//
// Callers: config.h (shared memory and the cost model), the kernels, and prepare.h, which brings
// every combination of code, zero point and scale type of tarpon.h into one of these.
#pragma once

#include <cstdint>
#include <iterator>

#include "common/types.h"

namespace tarpon::w4_gemm {

inline constexpr int kMinGroupSize = 32;

// The type of x and y.
enum class Activation { kF16, kBF16 };

// A group's scale of a column and what is added for every unit of x: w = centred * scale + offset.
struct ScaleOffset {
    float scale, offset;
};

// A format says what a warp finds in a stage: kBits a weight, a Scale for every column and group,
// and whether there are zero points. `kCenter` is what dequantisation subtracts from a code.
// kDequantOps: instructions of one lane for 8 weights, for the cost model.
//
// Scales that are binary16 (or become so when a column is divided by a power of two, which then is
// the column's factor) take two bytes; all others are binary32.
struct Int4Symmetric {
    using Scale = half_t;
    static constexpr int kBits = 4, kCenter = 8, kDequantOps = 11;
    static constexpr bool kZeros = false, kOffsets = false, kUngrouped = true, kSparse = false;
};
// A zero point of 0..15 in a byte for every column and group.
struct Int4Integer {
    using Scale = half_t;
    static constexpr int kBits = 4, kCenter = 0, kDequantOps = 13;
    static constexpr bool kZeros = true, kOffsets = false, kUngrouped = false, kSparse = false;
};
// Any scale and minimum, in binary32.
struct Int4Float {
    using Scale = ScaleOffset;
    static constexpr int kBits = 4, kCenter = 8, kDequantOps = 11;
    static constexpr bool kZeros = false, kOffsets = true, kUngrouped = false, kSparse = false;
};
struct Int8Symmetric {
    using Scale = half_t;
    static constexpr int kBits = 8, kCenter = 128, kDequantOps = 12;
    static constexpr bool kZeros = false, kOffsets = false, kUngrouped = true, kSparse = false;
};
// Integer zero points are offsets here: (128 - zero) * scale.
struct Int8Float {
    using Scale = ScaleOffset;
    static constexpr int kBits = 8, kCenter = 128, kDequantOps = 12;
    static constexpr bool kZeros = false, kOffsets = true, kUngrouped = false, kSparse = false;
};
struct Fp8E4m3 {
    using Scale = float;
    static constexpr int kBits = 8, kCenter = 0, kDequantOps = 20;
    static constexpr bool kZeros = false, kOffsets = false, kUngrouped = true, kSparse = false;
};

// 2:4 sparse (sparse_pack.h): two of four rows are kept, in 4 bits and 2 more that say which.
struct Int4Sparse {
    using Scale = half_t;
    static constexpr int kBits = 4, kCenter = 8, kDequantOps = 6;
    static constexpr bool kZeros = false, kOffsets = false, kUngrouped = true, kSparse = true;
};

#define TARPON_W4_GEMM_FORMATS(X) \
    X(Int4Symmetric)              \
    X(Int4Integer)                \
    X(Int4Float)                  \
    X(Int8Symmetric)              \
    X(Int8Float)                  \
    X(Fp8E4m3)                    \
    X(Int4Sparse)

#define TARPON_W4_GEMM_ID(name) k##name,
enum class FormatId { TARPON_W4_GEMM_FORMATS(TARPON_W4_GEMM_ID) };
#undef TARPON_W4_GEMM_ID

// What host code asks about a format by its number.
struct FormatTraits {
    const char *name;
    int bits, scale_bytes, dequant_ops;
    bool zeros, offsets;
    bool ungrouped;  // has kernels that apply one scale a column to the finished sum
    bool sparse;
    // What a weight takes in memory.
    constexpr double stored_bits() const { return sparse ? bits / 2 + 1 : bits; }
};

#define TARPON_W4_GEMM_TRAITS(name)                                                    \
    FormatTraits{#name,        name::kBits,    sizeof(name::Scale), name::kDequantOps, \
                 name::kZeros, name::kOffsets, name::kUngrouped,    name::kSparse},
inline constexpr FormatTraits kFormats[] = {TARPON_W4_GEMM_FORMATS(TARPON_W4_GEMM_TRAITS)};
#undef TARPON_W4_GEMM_TRAITS
inline constexpr int kFormatCount = static_cast<int>(std::size(kFormats));

constexpr const FormatTraits &traits(FormatId format) {
    return kFormats[static_cast<int>(format)];
}

}  // namespace tarpon::w4_gemm
