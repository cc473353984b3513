// From a layer in plain order to what the kernels read: the choice of a kernel format, packed codes,
// scales, zero points or offsets, column factors and bias. Plain host C++, header-only.
//
// Callers: native/src/cuda/linear.cc at create, test.cc.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/types.h"
#include "w4_gemm/format.h"
#include "w4_gemm/pack.h"
#include "w4_gemm/sparse_pack.h"

namespace tarpon::w4_gemm {

enum class CodeType { kInt4, kInt8, kFp8E4m3 };
enum class ZeroType { kSymmetric, kInteger, kFloat };
enum class ScaleType { kF16, kBF16, kF32 };

// A layer as tarpon.h describes it, in plain order and host memory.
struct PlainWeights {
    int64_t n, k;
    int64_t groups, group_size;
    CodeType code_type;
    ZeroType zero_type;
    ScaleType scale_type;
    const uint8_t *codes;  // [k, n]
    const void *scales;    // scale_type [groups, n]
    const void *zeros;     // uint8 (kInteger) or scale_type (kFloat) [groups, n]
    bool sparse = false;   // 2:4, and codes have the pattern; int4, symmetric
};

// The same for the kernels; columns padded to units of 64.
struct PreparedWeights {
    FormatId format;
    std::vector<uint32_t> qweight;    // [k_units, n_units, bits / 4, 32 lanes, 4]
    std::vector<uint8_t> scales;      // the format's scales [groups, 64 * n_units]
    std::vector<uint32_t> metadata;   // of sparse weights (sparse_pack.h), or empty
    std::vector<uint8_t> zeros;       // [groups, 64 * n_units], or empty
    std::vector<float> column_scale;  // [64 * n_units]
};

namespace detail {

inline float scale_at(const void *values, ScaleType type, int64_t i) {
    switch (type) {
        case ScaleType::kF16:
            return to_float(static_cast<const half_t *>(values)[i]);
        case ScaleType::kBF16:
            return to_float(static_cast<const bf16_t *>(values)[i]);
        case ScaleType::kF32:
            break;
    }
    return static_cast<const float *>(values)[i];
}

// The power of two that makes all scales of a column binary16 when they are divided by it: 0 if
// there is none. Scales of 8 significant bits, as bfloat16 has, may be 2^32 apart.
inline float column_factor(const PlainWeights &w, int64_t column) {
    if (w.scale_type == ScaleType::kF16) return 1;
    float largest = 0;
    for (int64_t g = 0; g < w.groups; ++g) {
        largest = std::max(largest, std::fabs(scale_at(w.scales, w.scale_type, g * w.n + column)));
    }
    if (largest == 0) return 1;
    // The largest becomes 2^14 .. 2^15; the factor itself must be a normal number.
    const float factor = std::ldexp(1.0f, std::max(std::ilogb(largest) - 14, -126));
    for (int64_t g = 0; g < w.groups; ++g) {
        const float scale = scale_at(w.scales, w.scale_type, g * w.n + column);
        const half_t narrow = from_float<half_t>(scale / factor);
        if (to_float(narrow) * factor != scale) return 0;
    }
    return factor;
}

// Where the codes of an 8-bit tile lie: byte `byte` of word `word` of a lane (see dequant.cuh).
constexpr TileCoord byte_tile_coord(int lane, int word, int byte) {
    const int reg = 2 * word + byte % 2;  // n-half reg / 2, k-half reg % 2
    return {2 * (lane % 4) + byte / 2 + 8 * (reg % 2), lane / 4 + 8 * (reg / 2)};
}

inline void pack_unit_bytes(const UnitCodes &unit, uint32_t *words) {
    for (int tile = 0; tile < kUnitTiles; ++tile) {
        for (int lane = 0; lane < 32; ++lane) {
            for (int word = 0; word < 2; ++word) {
                uint32_t packed = 0;
                for (int byte = 0; byte < 4; ++byte) {
                    const TileCoord at = byte_tile_coord(lane, word, byte);
                    packed |= uint32_t{unit[at.k][16 * tile + at.n]} << (8 * byte);
                }
                // [two tiles][lane][four words]
                words[128 * (tile / 2) + 4 * lane + 2 * (tile % 2) + word] = packed;
            }
        }
    }
}

}  // namespace detail

// Codes of a byte, of any 8-bit format. Padding is `zero_code`.
inline std::vector<uint32_t> pack_bytes(const uint8_t *codes, int64_t n, int64_t k,
                                        uint8_t zero_code) {
    const MarlinSize size = marlin_size(n, k, 1);
    std::vector<uint32_t> out(2 * size.qweight_words);
    uint32_t *words = out.data();
    detail::UnitCodes unit;
    for (int64_t k0 = 0; k0 < size.k_padded; k0 += kUnitK) {
        const int64_t rows = std::min<int64_t>(k - k0, kUnitK);
        for (int64_t n0 = 0; n0 < size.n_padded; n0 += kUnitN) {
            const int64_t cols = std::min<int64_t>(n - n0, kUnitN);
            if (rows < kUnitK || cols < kUnitN) std::memset(unit, zero_code, sizeof(unit));
            for (int64_t row = 0; row < rows; ++row) {
                std::memcpy(unit[row], codes + (k0 + row) * n + n0, static_cast<size_t>(cols));
            }
            detail::pack_unit_bytes(unit, words);
            words += 2 * kUnitWords;
        }
    }
    return out;
}

// Which kernels serve a layer. Where scales are not binary16, and no factors of the columns make
// them so, the formats with binary32 scales are exact too.
inline FormatId choose_format(const PlainWeights &w, bool narrow_scales) {
    if (w.code_type == CodeType::kFp8E4m3) return FormatId::kFp8E4m3;
    const bool narrow = narrow_scales || w.groups == 1;  // one scale is the column's factor
    if (w.code_type == CodeType::kInt8) {
        return w.zero_type == ZeroType::kSymmetric && narrow ? FormatId::kInt8Symmetric
                                                             : FormatId::kInt8Float;
    }
    // Sparse weights whose scales are not binary16 are multiplied as dense ones.
    if (w.zero_type == ZeroType::kFloat || !narrow) return FormatId::kInt4Float;
    if (w.sparse) return FormatId::kInt4Sparse;
    return w.zero_type == ZeroType::kInteger ? FormatId::kInt4Integer : FormatId::kInt4Symmetric;
}

inline PreparedWeights prepare_weights(const PlainWeights &w) {
    const MarlinSize size = marlin_size(w.n, w.k, w.groups);
    const int64_t columns = size.n_padded;
    PreparedWeights out{};
    out.column_scale.resize(static_cast<size_t>(columns), 1.0f);
    bool narrow = true;
    for (int64_t c = 0; c < w.n && narrow; ++c) {
        out.column_scale[c] = w.groups == 1 ? detail::scale_at(w.scales, w.scale_type, c)
                                            : detail::column_factor(w, c);
        narrow = w.groups == 1 || out.column_scale[c] != 0;
    }
    out.format = choose_format(w, narrow);
    const FormatTraits &format = traits(out.format);
    if (format.sparse) {
        SparseWeights packed = sparse_pack(w.codes, w.n, w.k);
        out.qweight.assign(packed.qweight.begin(), packed.qweight.end());
        out.metadata = std::move(packed.metadata);
    } else if (format.bits == 4) {
        out.qweight.resize(size.qweight_words);
        marlin_pack_codes(w.codes, w.n, w.k, reinterpret_cast<int32_t *>(out.qweight.data()));
    } else {
        out.qweight = pack_bytes(w.codes, w.n, w.k, w.code_type == CodeType::kInt8 ? 128 : 0);
    }
    if (w.groups == 1 && format.ungrouped) return out;  // the factors are all there is

    const size_t count = static_cast<size_t>(w.groups * columns);
    out.scales.resize(count * static_cast<size_t>(format.scale_bytes));
    if (format.zeros) out.zeros.resize(count);
    const bool factored = format.scale_bytes == 2;  // by column_scale
    if (!factored) std::fill(out.column_scale.begin(), out.column_scale.end(), 1.0f);
    const double center = w.code_type == CodeType::kInt4 ? 8 : 128;
    for (int64_t g = 0; g < w.groups; ++g) {
        for (int64_t i = 0; i < columns; ++i) {
            // The formats with scales of two bytes have them in MARLIN's order.
            const int64_t c = factored ? marlin_scale_source(i, false) : i;
            if (c >= w.n) continue;
            const int64_t source = g * w.n + c;
            const size_t at = static_cast<size_t>(g * columns + i);
            const float scale = detail::scale_at(w.scales, w.scale_type, source);
            if (factored) {
                const float divided = w.groups == 1 ? 1.0f : scale / out.column_scale[c];
                reinterpret_cast<half_t *>(out.scales.data())[at] = from_float<half_t>(divided);
                if (format.zeros) out.zeros[at] = static_cast<const uint8_t *>(w.zeros)[source];
            } else if (format.offsets) {
                double offset = 0;  // what a unit of x adds beside (code - center) * scale
                if (w.zero_type == ZeroType::kInteger) {
                    offset = (center - static_cast<const uint8_t *>(w.zeros)[source]) * scale;
                } else if (w.zero_type == ZeroType::kFloat) {
                    offset = center * scale + detail::scale_at(w.zeros, w.scale_type, source);
                }
                reinterpret_cast<ScaleOffset *>(out.scales.data())[at] = {
                    scale, static_cast<float>(offset)};
            } else {
                reinterpret_cast<float *>(out.scales.data())[at] = scale;
            }
        }
    }
    return out;
}

}  // namespace tarpon::w4_gemm
