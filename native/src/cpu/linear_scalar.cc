// The scalar kernel: any x86-64, and the plain statement of what the other kernels compute.
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
void pack_tile(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed) {
    auto *out = reinterpret_cast<float *>(packed);
    for (int64_t i = 0; i < units * kUnitRows; ++i) {
        for (int r = 0; r < rows; ++r) {
            out[(i / 2 * rows + r) * 2 + i % 2] = i < k ? load<T>(x, r * k + i) : 0.0f;
        }
    }
}

int code_at(const uint8_t *unit, int column, int row) {
    const uint8_t *lane = unit + 4 * column + 2 * (row % 2);
    const int byte = lane[row / 4];
    return row / 2 % 2 ? byte >> 4 : byte & 15;
}

template <class T>
void run_tile(const TileArgs &t) {
    const auto *activations = reinterpret_cast<const float *>(t.activations);
    for (int r = 0; r < t.rows; ++r) {
        for (int column = 0; column < t.columns; ++column) {
            const uint8_t *unit = t.codes + column / kLanes * kUnitBytes;
            float total = 0.0f, group_sum = 0.0f;
            for (int64_t u = 0; u < t.units; ++u, unit += t.vectors * kUnitBytes) {
                for (int i = 0; i < kUnitRows; ++i) {
                    const int64_t row = u * kUnitRows + i;
                    const float a = activations[(row / 2 * t.rows + r) * 2 + row % 2];
                    group_sum += a * static_cast<float>(code_at(unit, column % kLanes, i) - 8);
                }
                const int64_t step = u / kStepUnits;
                if (u + 1 == t.units || (u + 1) % kStepUnits == 0) {
                    const int64_t group = step / t.steps_per_group;
                    const half_t scale{t.scales[group * t.vectors * kLanes + column]};
                    total += group_sum * to_float(scale);
                    group_sum = 0.0f;
                }
            }
            const int64_t out = r * t.y_stride_elems + column;
            if constexpr (sizeof(T) == 4) {
                static_cast<float *>(t.y)[out] = total;
            } else {
                static_cast<uint16_t *>(t.y)[out] = from_float<T>(total).bits;
            }
        }
    }
}

template <class T>
constexpr LinearKernel kKernel = {pack_tile<T>, run_tile<T>, 2, 1};

}  // namespace

const LinearKernel *scalar_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kKernel<float>;
        case TARPON_F16:
            return &kKernel<half_t>;
        case TARPON_BF16:
            return &kKernel<bf16_t>;
    }
    return nullptr;
}

}  // namespace tarpon::cpu
