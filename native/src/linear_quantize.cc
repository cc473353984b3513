// Round-to-nearest quantisers of any format, and 2:4 pruning. The arithmetic is exact or correctly
// rounded, so that the result is the same for every compiler and instruction set.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "linear.h"
#include "linear_layouts.h"
#include "registry.h"
#include "w4_gemm/quantize.h"

namespace tarpon {
namespace {

w4_gemm::WeightDtype checked_weight_dtype(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return w4_gemm::WeightDtype::kF32;
        case TARPON_F16:
            return w4_gemm::WeightDtype::kF16;
        case TARPON_BF16:
            return w4_gemm::WeightDtype::kBF16;
    }
    fail(TARPON_ERROR_INVALID_ARGUMENT,
         "weight_dtype is %d (%s); it must be F32 (0), F16 (1) or BF16 (2)", dtype,
         dtype_name(dtype));
}

// Weights need not be aligned in the caller's memory: a tensor in a mapped file may not be.
template <class T>
float load_unaligned(const void *weight, int64_t i) {
    T value;
    std::memcpy(&value, static_cast<const char *>(weight) + static_cast<int64_t>(sizeof value) * i,
                sizeof value);
    return to_float(value);
}

float load_weight(const void *weight, w4_gemm::WeightDtype dtype, int64_t i) {
    switch (dtype) {
        case w4_gemm::WeightDtype::kF32:
            return load_unaligned<float>(weight, i);
        case w4_gemm::WeightDtype::kF16:
            return load_unaligned<half_t>(weight, i);
        case w4_gemm::WeightDtype::kBF16:
            break;
    }
    return load_unaligned<bf16_t>(weight, i);
}

[[noreturn]] void refuse_weight(int64_t n, int64_t k, float value, const char *why) {
    fail(TARPON_ERROR_INVALID_ARGUMENT, "weight[%lld, %lld] is %g, which %s", ll{n}, ll{k},
         static_cast<double>(value), why);
}

// Row `n` of the weight, from input k0 on, as binary32.
void load_group(const void *weight, w4_gemm::WeightDtype dtype, int64_t n, int64_t k, int64_t k0,
                int64_t count, float *out) {
    for (int64_t i = 0; i < count; ++i) {
        out[i] = load_weight(weight, dtype, n * k + k0 + i);
        if (!std::isfinite(out[i])) refuse_weight(n, k0 + i, out[i], "is not finite");
    }
}

// Scale and zero of a group, as they are stored.
struct Grid {
    float scale;
    float minimum;  // FLOAT only
    int zero;       // what codes have taken off otherwise
};

int round_code(double value, int low, int high) {
    return static_cast<int>(std::clamp(std::nearbyint(value), double(low), double(high)));
}

float rounded(tarpon_scale_type type, double value) {
    float out[1];
    store_scale(out, type, 0, static_cast<float>(value));
    return load_scale(out, type, 0);
}

Grid choose_grid(const LinearFormat &format, const float *w, int64_t count) {
    const auto [low, high] = std::minmax_element(w, w + count);
    const double min = *low, max = *high, largest = std::max(-min, max);
    const int steps = format.max_code();
    switch (format.zero_type) {
        case TARPON_ZERO_INTEGER: {
            const double floor = std::min(min, 0.0), range = std::max(max, 0.0) - floor;
            const float scale = rounded(format.scale_type, range / steps);
            const double zero = scale > 0 ? -floor / double{scale} : 0;
            return {scale, 0, round_code(zero, 0, steps)};
        }
        case TARPON_ZERO_FLOAT:
            return {rounded(format.scale_type, (max - min) / steps),
                    rounded(format.scale_type, min), 0};
    }
    const double span = format.weight_type == TARPON_WEIGHT_FP8_E4M3 ? 448 : steps / 2.0;
    return {rounded(format.scale_type, largest / span), 0, format.symmetric_zero()};
}

uint8_t quantize_weight(const LinearFormat &format, const Grid &grid, float w) {
    if (format.weight_type == TARPON_WEIGHT_FP8_E4M3)
        return grid.scale > 0 ? e4m3_nearest(w / grid.scale) : 0;
    const double steps =
        grid.scale > 0 ? (double{w} - double{grid.minimum}) / double{grid.scale} : 0;
    return static_cast<uint8_t>(round_code(steps, -grid.zero, format.max_code() - grid.zero) +
                                grid.zero);
}

// The original MARLIN packer's format and rounding have a quantiser of their own.
void quantize_marlin(const void *weight, w4_gemm::WeightDtype dtype, const LinearShape &shape,
                     uint8_t *out_codes, uint16_t *out_scales) {
    const auto result = w4_gemm::quantize_rtn(weight, dtype, shape.n, shape.k, shape.group_size,
                                              out_codes, out_scales);
    if (result.fault == w4_gemm::QuantizeFault::kNone) return;
    refuse_weight(result.n, result.k, result.value,
                  result.fault == w4_gemm::QuantizeFault::kScaleOverflow
                      ? "needs a scale beyond binary16's 65504; scale the layer down"
                      : "is not finite");
}

struct Source {
    const void *weight;  // [N, K]
    w4_gemm::WeightDtype dtype;
};
struct Target {
    uint8_t *codes;  // [K, N]
    void *scales;    // [G, N]
    void *zeros;     // [G, N]; null if symmetric
};

void quantize_any(const Source &source, const LinearShape &shape, const LinearFormat &format,
                  const Target &out) {
    const auto [n, k, group_size, groups] = shape;
    // Columns of codes are written in runs of this many.
    constexpr int64_t kColumns = 64;
    const int64_t longest = std::min(group_size, k);
    std::vector<float> w(static_cast<size_t>(longest));
    std::vector<uint8_t> tile(static_cast<size_t>(longest * kColumns));
    for (int64_t n0 = 0; n0 < n; n0 += kColumns) {
        const int64_t columns = std::min(n - n0, kColumns);
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t k0 = g * group_size, count = std::min(k - k0, group_size);
            for (int64_t c = 0; c < columns; ++c) {
                load_group(source.weight, source.dtype, n0 + c, k, k0, count, w.data());
                const Grid grid = choose_grid(format, w.data(), count);
                if (!std::isfinite(grid.scale) || !std::isfinite(grid.minimum)) {
                    const auto largest = std::max_element(
                        w.data(), w.data() + count,
                        [](float a, float b) { return std::fabs(a) < std::fabs(b); });
                    refuse_weight(n0 + c, k0 + (largest - w.data()), *largest,
                                  "needs a scale or minimum beyond the scale type's range; scale "
                                  "the layer down or take a wider scale_type");
                }
                const int64_t at = g * n + n0 + c;
                store_scale(out.scales, format.scale_type, at, grid.scale);
                if (format.zero_type == TARPON_ZERO_INTEGER)
                    static_cast<uint8_t *>(out.zeros)[at] = static_cast<uint8_t>(grid.zero);
                if (format.zero_type == TARPON_ZERO_FLOAT)
                    store_scale(out.zeros, format.scale_type, at, grid.minimum);
                for (int64_t i = 0; i < count; ++i) {
                    tile[static_cast<size_t>(i * kColumns + c)] =
                        quantize_weight(format, grid, w[static_cast<size_t>(i)]);
                }
            }
            for (int64_t i = 0; i < count; ++i) {
                std::memcpy(out.codes + (k0 + i) * n + n0, tile.data() + i * kColumns,
                            static_cast<size_t>(columns));
            }
        }
    }
}

}  // namespace

void w4_quantize(const void *weight, tarpon_dtype dtype, int64_t n, int64_t k, int32_t group_size,
                 uint8_t *out_codes, uint16_t *out_scales) {
    quantize_marlin(weight, checked_weight_dtype(dtype), checked_shape(n, k, group_size), out_codes,
                    out_scales);
}

void weights_quantize(const tarpon_linear_desc &desc, const void *weight, tarpon_dtype dtype,
                      uint8_t *out_codes, void *out_scales, void *out_zeros) {
    const LinearShape shape = checked_shape(desc.out_features, desc.in_features, desc.group_size);
    const LinearFormat format = checked_format(desc);
    const w4_gemm::WeightDtype weight_dtype = checked_weight_dtype(dtype);
    check_outputs(format, out_scales, out_zeros);
    if (format.weight_type == TARPON_WEIGHT_INT4 && format.zero_type == TARPON_ZERO_SYMMETRIC &&
        format.scale_type == TARPON_SCALE_F16) {
        quantize_marlin(weight, weight_dtype, shape, out_codes,
                        static_cast<uint16_t *>(out_scales));
    } else {
        quantize_any({weight, weight_dtype}, shape, format, {out_codes, out_scales, out_zeros});
    }
    if (format.sparsity == TARPON_SPARSITY_2_4)
        check_sparsity("", out_codes, shape.k, shape.n, shape.n);
}

void prune_2_4(const void *weight, tarpon_dtype dtype, int64_t n, int64_t k, void *out_weight) {
    checked_shape(n, k, -1);
    const w4_gemm::WeightDtype weight_dtype = checked_weight_dtype(dtype);
    const size_t elem_bytes = dtype == TARPON_F32 ? 4 : 2;
    for (int64_t i = 0; i < n * k; ++i) {
        const float value = load_weight(weight, weight_dtype, i);
        if (!std::isfinite(value)) refuse_weight(i / k, i % k, value, "is not finite");
    }
    if (weight != out_weight)
        std::memcpy(out_weight, weight, static_cast<size_t>(n * k) * elem_bytes);
    auto *bytes = static_cast<char *>(out_weight);
    for (int64_t row = 0; row < n; ++row) {
        for (int64_t k0 = 0; k0 < k; k0 += 4) {
            const int count = static_cast<int>(std::min<int64_t>(k - k0, 4));
            float w[4];
            for (int i = 0; i < count; ++i)
                w[i] = load_weight(out_weight, weight_dtype, row * k + k0 + i);
            for (int i = 0; i < count; ++i) {
                int larger = 0;  // of equal magnitudes the first ones stay
                for (int j = 0; j < count; ++j) {
                    const float mine = std::fabs(w[i]), other = std::fabs(w[j]);
                    larger += other > mine || (other == mine && j < i);
                }
                if (larger < 2) continue;
                std::memset(bytes + static_cast<size_t>(row * k + k0 + i) * elem_bytes, 0,
                            elem_bytes);
            }
        }
    }
}

}  // namespace tarpon
