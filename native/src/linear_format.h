// What a descriptor of the linear family says, checked: the shape, the format of the weights, and
// small helpers for elements of any scale type. Cold code: failures throw tarpon::Error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "status.h"
#include "types.h"

namespace tarpon {

using ll = long long;

struct LinearShape {
    int64_t n, k;
    int64_t group_size;  // K for per-channel scales
    int64_t groups;
};

// N, K >= 1, N * K <= 2^40, group_size 32, 64, 128 or -1.
LinearShape checked_shape(int64_t n, int64_t k, int32_t group_size);

// How weights are coded: the part of tarpon_linear_desc that host functions need, too.
struct LinearFormat {
    tarpon_weight_type weight_type = TARPON_WEIGHT_INT4;
    tarpon_zero_type zero_type = TARPON_ZERO_SYMMETRIC;
    tarpon_scale_type scale_type = TARPON_SCALE_F16;
    tarpon_sparsity sparsity = TARPON_SPARSITY_NONE;

    int bits() const { return weight_type == TARPON_WEIGHT_INT4 ? 4 : 8; }
    int max_code() const { return (1 << bits()) - 1; }
    // What a symmetric code has taken off; e4m3 codes have none.
    int symmetric_zero() const {
        return weight_type == TARPON_WEIGHT_FP8_E4M3 ? 0 : 1 << (bits() - 1);
    }
    size_t scale_bytes() const { return scale_type == TARPON_SCALE_F32 ? 4 : 2; }
    // Bytes of one zero point or minimum; 0 if there are none.
    size_t zero_bytes() const {
        return zero_type == TARPON_ZERO_SYMMETRIC ? 0
               : zero_type == TARPON_ZERO_INTEGER ? 1
                                                  : scale_bytes();
    }
};

// Every enum in range, and only combinations that tarpon.h defines.
LinearFormat checked_format(const tarpon_linear_desc &desc);

// Fails with desc-><name> unless 0 <= value <= last; `values` lists what is legal.
void check_enum(const char *name, int32_t value, int32_t last, const char *values);

// Refuses arrays for scales and zeros that are not aligned to their elements, and zeros that are
// missing or too many.
void check_outputs(const LinearFormat &format, const void *out_scales, const void *out_zeros);

const char *weight_type_name(tarpon_weight_type type);
const char *zero_type_name(tarpon_zero_type type);
const char *scale_type_name(tarpon_scale_type type);

inline float load_scale(const void *scales, tarpon_scale_type type, int64_t i) {
    switch (type) {
        case TARPON_SCALE_F16:
            return to_float(static_cast<const half_t *>(scales)[i]);
        case TARPON_SCALE_BF16:
            return to_float(static_cast<const bf16_t *>(scales)[i]);
    }
    return static_cast<const float *>(scales)[i];
}

// Rounds to nearest even.
inline void store_scale(void *scales, tarpon_scale_type type, int64_t i, float value) {
    switch (type) {
        case TARPON_SCALE_F16:
            static_cast<half_t *>(scales)[i] = from_float<half_t>(value);
            return;
        case TARPON_SCALE_BF16:
            static_cast<bf16_t *>(scales)[i] = from_float<bf16_t>(value);
            return;
    }
    static_cast<float *>(scales)[i] = value;
}

// The value of an e4m3 number ("fn": no infinities; 0x7f and 0xff are NaN).
float e4m3_value(uint8_t code);
// The nearest e4m3 number, ties to even; magnitudes beyond 448 saturate. value is finite.
uint8_t e4m3_nearest(float value);

}  // namespace tarpon
