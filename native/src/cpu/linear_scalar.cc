// The scalar kernels: any x86-64, and the plain statement of what the other kernels compute.
#include <bit>
#include <cmath>
#include <cstring>

#include "cpu/linear_kernel.h"
#include "types.h"

namespace tarpon::cpu {
namespace {

template <class T>
float load(const void *x, int64_t i) {
    if constexpr (sizeof(T) == 4) {
        return static_cast<const float *>(x)[i];
    } else {
        return to_float(T{static_cast<const uint16_t *>(x)[i]});
    }
}

template <class T>
void store(void *y, int64_t i, float value) {
    if constexpr (sizeof(T) == 4) {
        static_cast<float *>(y)[i] = value;
    } else {
        static_cast<uint16_t *>(y)[i] = from_float<T>(value).bits;
    }
}

// The codes of 16 columns and 8 rows; see linear_kernel.h.
struct Unit {
    uint32_t lanes[kLanes];

    explicit Unit(const uint8_t *codes) { std::memcpy(lanes, codes, sizeof lanes); }
    int code(int column, int row) const {
        return static_cast<int>(lanes[column] >> (16 * (row % 2) + 4 * (row / 2)) & 15);
    }
};

// One row of activations (scalar tiles have one). For every vector and step it calls
// sum_step(codes of the vector's first unit, units, step, sums), which fills the step's sums of
// the 16 columns, in units of the weights' scales.
template <class T, class SumStep>
void run_row(const TileArgs &t, SumStep sum_step) {
    for (int first = 0; first < t.columns; first += kLanes) {
        const uint8_t *codes = t.codes + first / kLanes * kUnitBytes;
        float totals[kLanes] = {};
        for (int64_t step = 0; step * t.step_units < t.units; ++step) {
            const int64_t unit = step * t.step_units;
            const int64_t units = t.units - unit < t.step_units ? t.units - unit : t.step_units;
            float sums[kLanes];
            sum_step(codes + unit * t.vectors * kUnitBytes, units, step, sums);
            const int64_t group = step / t.steps_per_group;
            const uint16_t *scales = t.scales + group * t.vectors * kLanes + first;
            for (int c = 0; c < kLanes; ++c)
                totals[c] += sums[c] * to_float(half_t{scales[c]});
        }
        for (int c = 0; c < kLanes && first + c < t.columns; ++c)
            store<T>(t.y, first + c, totals[c]);
    }
}

// ---- Exact ------------------------------------------------------------------------------------

template <class T>
void pack_tile(const void *x, int64_t k, int64_t units, int, uint32_t *packed) {
    auto *out = reinterpret_cast<float *>(packed);
    for (int64_t i = 0; i < units * kUnitRows; ++i)
        out[i] = i < k ? load<T>(x, i) : 0.0f;
}

template <class T>
void run_tile(const TileArgs &t) {
    const auto *activations = reinterpret_cast<const float *>(t.activations);
    run_row<T>(t, [&](const uint8_t *codes, int64_t units, int64_t step, float *sums) {
        const float *a = activations + step * t.step_units * kUnitRows;
        for (int c = 0; c < kLanes; ++c)
            sums[c] = 0.0f;
        for (int64_t u = 0; u < units; ++u, codes += t.vectors * kUnitBytes, a += kUnitRows) {
            const Unit unit(codes);
            for (int i = 0; i < kUnitRows; ++i) {
                for (int c = 0; c < kLanes; ++c) {
                    sums[c] += a[i] * static_cast<float>(unit.code(c, i) - 8);
                }
            }
        }
    });
}

// ---- Int8 activations -------------------------------------------------------------------------

constexpr int kHeaderWords = 2;
constexpr int kStepWords = kHeaderWords + kStepRows / 4;
// Inputs of a unit in the order of their bytes.
constexpr int kByteOrder[kUnitRows] = {0, 4, 1, 5, 2, 6, 3, 7};

template <class T>
void pack_step_int8(const void *x, int64_t first, int64_t end, int64_t units, uint32_t *packed) {
    float max = 0.0f;
    bool finite = true;
    for (int64_t i = first; i < end; ++i) {
        const float value = std::fabs(load<T>(x, i));
        finite = finite && std::isfinite(value);
        if (value > max) max = value;
    }
    // Below this 127 / max overflows; such a step counts as zeros.
    const bool zero = max < 0x1p-110f;
    const float inverse = 127.0f / max;
    int32_t sum = 0;
    auto *bytes = reinterpret_cast<int8_t *>(packed + kHeaderWords);
    for (int64_t i = 0; i < units * kUnitRows; ++i) {
        const int64_t input = first + i / kUnitRows * kUnitRows + kByteOrder[i % kUnitRows];
        const bool counts = input < end && finite && !zero;
        const float scaled = counts ? load<T>(x, input) * inverse : 0.0f;
        bytes[i] = static_cast<int8_t>(std::nearbyint(scaled));
        sum += bytes[i];
    }
    packed[0] = std::bit_cast<uint32_t>(!finite ? std::nanf("") : zero ? 0.0f : max / 127.0f);
    packed[1] = static_cast<uint32_t>(-8 * sum);
}

template <class T>
void pack_tile_int8(const void *x, int64_t k, int64_t units, int, uint32_t *packed) {
    for (int64_t u = 0; u < units; u += kStepUnits, packed += kStepWords) {
        const int64_t step_units = units - u < kStepUnits ? units - u : kStepUnits;
        const int64_t first = u * kUnitRows;
        const int64_t end = first + kStepRows < k ? first + kStepRows : k;
        pack_step_int8<T>(x, first, end, step_units, packed);
    }
}

template <class T>
void run_tile_int8(const TileArgs &t) {
    run_row<T>(t, [&](const uint8_t *codes, int64_t units, int64_t step, float *sums) {
        const uint32_t *packed = t.activations + step * kStepWords;
        const auto *a = reinterpret_cast<const int8_t *>(packed + kHeaderWords);
        int32_t integers[kLanes];
        for (int c = 0; c < kLanes; ++c)
            integers[c] = static_cast<int32_t>(packed[1]);
        for (int64_t u = 0; u < units; ++u, codes += t.vectors * kUnitBytes, a += kUnitRows) {
            const Unit unit(codes);
            for (int i = 0; i < kUnitRows; ++i) {
                for (int c = 0; c < kLanes; ++c)
                    integers[c] += a[i] * unit.code(c, kByteOrder[i]);
            }
        }
        const float scale = std::bit_cast<float>(packed[0]);
        for (int c = 0; c < kLanes; ++c)
            sums[c] = static_cast<float>(integers[c]) * scale;
    });
}

template <class T>
constexpr LinearKernel kExact = {pack_tile<T>, run_tile<T>, 8, 0, 1};
template <class T>
constexpr LinearKernel kInt8 = {pack_tile_int8<T>, run_tile_int8<T>, 2, kHeaderWords, 1};

}  // namespace

const LinearKernel *scalar_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kExact<float>;
        case TARPON_F16:
            return &kExact<half_t>;
        case TARPON_BF16:
            return &kExact<bf16_t>;
    }
    return nullptr;
}

const LinearKernel *scalar_int8_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kInt8<float>;
        case TARPON_F16:
            return &kInt8<half_t>;
        case TARPON_BF16:
            return &kInt8<bf16_t>;
    }
    return nullptr;
}

}  // namespace tarpon::cpu
