// The scalar kernels: any x86-64, and the plain statement of what the other kernels compute.
#include <bit>
#include <cstring>

#include "cpu/linear_int8_pack.inl.h"
#include "cpu/linear_kernel.h"
#include "types.h"

namespace tarpon::cpu {
namespace {

// Types of activations.
struct F32 {
    using Bits = float;
    static float value(Bits bits) { return bits; }
    static Bits rounded(float value) { return value; }
};
struct F16 {
    using Bits = uint16_t;
    static float value(Bits bits) { return to_float(half_t{bits}); }
    static Bits rounded(float value) { return from_float<half_t>(value).bits; }
};
struct Bf16 {
    using Bits = uint16_t;
    static float value(Bits bits) { return to_float(bf16_t{bits}); }
    static Bits rounded(float value) { return from_float<bf16_t>(value).bits; }
};

// ---- Weights ----------------------------------------------------------------------------------

// Codes of 16 columns and 8 rows. value(codes, column, row) is what is multiplied, code - kBias;
// raw(...) is the code.
struct Int4Codes {
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;
    static int raw(const uint8_t *codes, int column, int row) {
        uint32_t lane;
        std::memcpy(&lane, codes + 4 * column, sizeof lane);
        return static_cast<int>(lane >> (16 * (row % 2) + 4 * (row / 2)) & 15);
    }
    static float value(const uint8_t *codes, int column, int row) {
        return static_cast<float>(raw(codes, column, row) - kBias);
    }
};

struct Int8Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    // As exact kernels have them.
    static float value(const uint8_t *codes, int column, int row) {
        return static_cast<float>(static_cast<int8_t>(codes[row * kLanes + column]));
    }
    // As int8 kernels have them: rows 0,4,1,5 of a column are bytes 0..3 of its lane, rows 2,6,3,7
    // those 64 bytes further on.
    static int raw(const uint8_t *codes, int column, int row) {
        return codes[row / 2 % 2 * kVectorBytes + 4 * column + row % 2 * 2 + row / 4];
    }
};

struct E4m3Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 0;
    static float value(const uint8_t *codes, int column, int row) {
        const uint32_t code = codes[(row / 2 * kLanes + column) * 2 + row % 2];
        const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
        const float magnitude = exponent == 0
                                    ? static_cast<float>(mantissa) * 0x1p-9f
                                    : std::bit_cast<float>((exponent + 120) << 23 | mantissa << 20);
        return code & 128 ? -magnitude : magnitude;
    }
};

float product(uint8_t code, uint16_t super) {
    return static_cast<float>(code) * to_float(half_t{super});
}

// Index i of scales, and of the upper level where there are two.
float scale_at(const PanelScales &s, int64_t i, int64_t super) {
    const PanelFactors &f = s.factors;
    if (f.scale_codes) return product(f.scale_codes[i], f.super_scales[super]);
    if (s.scale_type == TARPON_SCALE_F32) return static_cast<const float *>(s.scales)[i];
    const uint16_t bits = static_cast<const uint16_t *>(s.scales)[i];
    return s.scale_type == TARPON_SCALE_F16 ? to_float(half_t{bits}) : to_float(bf16_t{bits});
}

float offset_at(const PanelScales &s, int64_t i, int64_t super, int bias) {
    const float scale = scale_at(s, i, super);
    if (s.zeros) return static_cast<float>(bias - s.zeros[i]) * scale;
    if (s.factors.scale_codes) {
        // Rounded once, as by FMA.
        const double minimum = product(s.factors.minimum_codes[i], s.factors.super_minimums[super]);
        return static_cast<float>(minimum + double{scale} * bias);
    }
    return s.offsets ? s.offsets[i] : 0.0f;
}

// ---- The tile: one row ------------------------------------------------------------------------

// For every vector and step it calls sum_step(codes of the vector's first unit, units, step, sums),
// which fills the step's sums of the 16 columns, in units of the weights' scales, and returns the
// step's sum of x.
template <class T, class Codes, class SumStep>
void run_row(const TileArgs &t, SumStep sum_step) {
    const int64_t unit_bytes = t.vectors * Codes::kUnitBytes;
    for (int first = 0; first < t.columns; first += kLanes) {
        const uint8_t *codes = t.codes + first / kLanes * Codes::kUnitBytes;
        float totals[kLanes] = {};
        for (int64_t step = 0; step * t.step_units < t.units; ++step) {
            const int64_t unit = step * t.step_units;
            const int64_t units = t.units - unit < t.step_units ? t.units - unit : t.step_units;
            float sums[kLanes];
            const float x_sum = sum_step(codes + unit * unit_bytes, units, step, sums);
            const int64_t group = step / t.steps_per_group;
            const int64_t scales = group * t.vectors * kLanes + first;
            const int64_t super = group / kSuperGroups * t.vectors * kLanes + first;
            const bool has_offset =
                t.scales.zeros || t.scales.offsets || t.scales.factors.scale_codes;
            for (int c = 0; c < kLanes; ++c) {
                totals[c] += sums[c] * scale_at(t.scales, scales + c, super + c);
                if (has_offset) {
                    totals[c] += x_sum * offset_at(t.scales, scales + c, super + c, Codes::kBias);
                }
            }
        }
        auto *y = static_cast<typename T::Bits *>(t.y);
        const auto *residual = static_cast<const typename T::Bits *>(t.residual);
        for (int c = first; c < first + kLanes && c < t.columns; ++c) {
            float value = totals[c - first];
            if (t.bias) value += t.bias[c];
            if (residual) value += T::value(residual[c]);
            y[c] = T::rounded(value);
        }
    }
}

// ---- Exact ------------------------------------------------------------------------------------

template <class T>
void pack_tile(const PackArgs &args) {
    auto *out = reinterpret_cast<float *>(args.packed);
    for (int64_t u = 0; u < args.units; u += args.step_units) {
        typename T::Bits gathered[kStepRows];
        const auto *x = inputs_in_order(args, 0, u * kUnitRows, kStepRows, gathered);
        const int64_t units = args.units - u < args.step_units ? args.units - u : args.step_units;
        float sum = 0.0f;
        for (int64_t i = 0; i < units * kUnitRows; ++i) {
            const float value = u * kUnitRows + i < args.k ? T::value(x[i]) : 0.0f;
            *out++ = value;
            sum += value;
        }
        if (args.headers) args.headers[u / args.step_units] = std::bit_cast<uint32_t>(sum);
    }
}

template <class T, class Codes>
void run_tile(const TileArgs &t) {
    const auto *activations = reinterpret_cast<const float *>(t.activations);
    run_row<T, Codes>(t, [&](const uint8_t *codes, int64_t units, int64_t step, float *sums) {
        const float *a = activations + step * t.step_units * kUnitRows;
        for (int c = 0; c < kLanes; ++c)
            sums[c] = 0.0f;
        for (int64_t u = 0; u < units; ++u, a += kUnitRows) {
            for (int i = 0; i < kUnitRows; ++i) {
                for (int c = 0; c < kLanes; ++c)
                    sums[c] += a[i] * Codes::value(codes, c, i);
            }
            codes += t.vectors * Codes::kUnitBytes;
        }
        return t.headers ? std::bit_cast<float>(t.headers[step]) : 0.0f;
    });
}

// ---- Int8 activations -------------------------------------------------------------------------

template <class T, class Codes>
void run_tile_int8(const TileArgs &t) {
    run_row<T, Codes>(t, [&](const uint8_t *codes, int64_t units, int64_t step, float *sums) {
        const auto *a = reinterpret_cast<const int8_t *>(t.activations +
                                                         step * t.step_units * kInt8WordsPerUnit);
        const uint32_t *header = t.headers + step * kInt8HeaderWords;
        const auto sum = static_cast<int32_t>(header[1]);
        int32_t integers[kLanes];
        for (int c = 0; c < kLanes; ++c)
            integers[c] = -Codes::kBias * sum;
        for (int64_t u = 0; u < units; ++u, a += kUnitRows) {
            for (int i = 0; i < kUnitRows; ++i) {
                for (int c = 0; c < kLanes; ++c)
                    integers[c] += a[i] * Codes::raw(codes, c, kByteOrder[i]);
            }
            codes += t.vectors * Codes::kUnitBytes;
        }
        const float scale = std::bit_cast<float>(header[0]);
        for (int c = 0; c < kLanes; ++c)
            sums[c] = static_cast<float>(integers[c]) * scale;
        return static_cast<float>(sum) * scale;
    });
}

// ---- Tables -----------------------------------------------------------------------------------

template <class T, class Codes>
constexpr LinearKernel kExact = {pack_tile<T>, run_tile<T, Codes>, kUnitRows, 1, 1, 1};
template <class T, class Codes>
constexpr LinearKernel kInt8 = {
    pack_tile_int8<T>, run_tile_int8<T, Codes>, kInt8WordsPerUnit, kInt8HeaderWords, 1, 1};

template <class T>
const LinearKernel *exact_kernel(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kExact<T, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kExact<T, Int8Codes>;
        case TARPON_WEIGHT_FP8_E4M3:
            return &kExact<T, E4m3Codes>;
    }
    return nullptr;
}

template <class T>
const LinearKernel *int8_kernel(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kInt8<T, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kInt8<T, Int8Codes>;
    }
    return nullptr;
}

}  // namespace

const LinearKernel *scalar_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return exact_kernel<F32>(type);
        case TARPON_F16:
            return exact_kernel<F16>(type);
        case TARPON_BF16:
            return exact_kernel<Bf16>(type);
    }
    return nullptr;
}

const LinearKernel *scalar_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return int8_kernel<F32>(type);
        case TARPON_F16:
            return int8_kernel<F16>(type);
        case TARPON_BF16:
            return int8_kernel<Bf16>(type);
    }
    return nullptr;
}

}  // namespace tarpon::cpu
