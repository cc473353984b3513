// The checks of linear_format.h.
#include "linear_format.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "registry.h"

namespace tarpon {
namespace {

// 2^40 codes are a terabyte: anything larger is a wrong size, and all products below fit int64.
constexpr int64_t kMaxWeightElems = int64_t{1} << 40;

}  // namespace

LinearShape checked_shape(int64_t n, int64_t k, int32_t group_size) {
    if (n < 1 || k < 1) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "out_features is %lld and in_features is %lld; both must be >= 1", ll{n}, ll{k});
    }
    if (n > kMaxWeightElems / k) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "out_features %lld times in_features %lld is over the limit of 2^40 weights", ll{n},
             ll{k});
    }
    if (group_size != -1 && group_size != 32 && group_size != 64 && group_size != 128) {
        fail(TARPON_ERROR_UNSUPPORTED,
             "group_size is %d; supported are 32, 64, 128 and -1 (one group over all input rows)",
             group_size);
    }
    if (group_size == -1) return {n, k, k, 1};
    return {n, k, group_size, (k + group_size - 1) / group_size};
}

void check_enum(const char *name, int32_t value, int32_t last, const char *values) {
    if (value >= 0 && value <= last) return;
    fail(TARPON_ERROR_INVALID_ARGUMENT, "desc->%s is %d; it must be %s", name, value, values);
}

LinearFormat checked_format(const tarpon_linear_desc &desc) {
    check_enum("weight_type", desc.weight_type, TARPON_WEIGHT_FP8_E4M3,
               "TARPON_WEIGHT_INT4 (0), _INT8 (1) or _FP8_E4M3 (2)");
    check_enum("zero_type", desc.zero_type, TARPON_ZERO_FLOAT,
               "TARPON_ZERO_SYMMETRIC (0), _INTEGER (1) or _FLOAT (2)");
    check_enum("scale_type", desc.scale_type, TARPON_SCALE_F32,
               "TARPON_SCALE_F16 (0), _BF16 (1) or _F32 (2)");
    check_enum("sparsity", desc.sparsity, TARPON_SPARSITY_2_4,
               "TARPON_SPARSITY_NONE (0) or _2_4 (1)");
    if (desc.weight_type == TARPON_WEIGHT_FP8_E4M3 && desc.zero_type != TARPON_ZERO_SYMMETRIC) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->zero_type is %s; weights of type FP8_E4M3 are SYMMETRIC",
             zero_type_name(desc.zero_type));
    }
    if (desc.sparsity == TARPON_SPARSITY_2_4 &&
        (desc.weight_type != TARPON_WEIGHT_INT4 || desc.zero_type != TARPON_ZERO_SYMMETRIC)) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "desc->sparsity is 2:4 with weights of type %s, %s; 2:4 sparse weights are INT4, "
             "SYMMETRIC",
             weight_type_name(desc.weight_type), zero_type_name(desc.zero_type));
    }
    return {desc.weight_type, desc.zero_type, desc.scale_type, desc.sparsity};
}

void check_outputs(const LinearFormat &format, const void *out_scales, const void *out_zeros) {
    if (!out_zeros != (format.zero_type == TARPON_ZERO_SYMMETRIC)) {
        fail(TARPON_ERROR_INVALID_ARGUMENT, "out_zeros is %p; %s weights have %s", out_zeros,
             zero_type_name(format.zero_type), out_zeros ? "none: pass NULL" : "zeros");
    }
    const size_t scale_bytes = format.scale_bytes();
    const size_t zero_bytes = std::max<size_t>(format.zero_bytes(), 1);
    if (reinterpret_cast<uintptr_t>(out_scales) % scale_bytes != 0 ||
        reinterpret_cast<uintptr_t>(out_zeros) % zero_bytes != 0) {
        fail(TARPON_ERROR_INVALID_ARGUMENT,
             "out_scales is %p and out_zeros is %p; they must be aligned to their elements, of %zu "
             "and %zu bytes",
             out_scales, out_zeros, scale_bytes, zero_bytes);
    }
}

const char *weight_type_name(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return "INT4";
        case TARPON_WEIGHT_INT8:
            return "INT8";
        case TARPON_WEIGHT_FP8_E4M3:
            return "FP8_E4M3";
    }
    return "of no known weight type";
}

const char *zero_type_name(tarpon_zero_type type) {
    switch (type) {
        case TARPON_ZERO_SYMMETRIC:
            return "SYMMETRIC";
        case TARPON_ZERO_INTEGER:
            return "INTEGER";
        case TARPON_ZERO_FLOAT:
            return "FLOAT";
    }
    return "of no known zero type";
}

const char *scale_type_name(tarpon_scale_type type) {
    switch (type) {
        case TARPON_SCALE_F16:
            return "F16";
        case TARPON_SCALE_BF16:
            return "BF16";
        case TARPON_SCALE_F32:
            return "F32";
    }
    return "of no known scale type";
}

float e4m3_value(uint8_t code) {
    const int magnitude = code & 0x7f, exponent = magnitude >> 3, mantissa = magnitude & 7;
    float value = std::numeric_limits<float>::quiet_NaN();
    if (magnitude != 0x7f) {
        value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    }
    return code & 0x80 ? -value : value;
}

uint8_t e4m3_nearest(float value) {
    const uint8_t sign = std::signbit(value) ? 0x80 : 0;
    const float magnitude = std::fabs(value);
    if (magnitude >= 448) return sign | 0x7e;
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    // Steps of 2^-9 up to 2^-6, then eight steps to each power of two.
    const int step = magnitude < 0x1p-6f ? -9 : exponent - 4;
    const int count = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -step)));
    // A count of 16 carries into the exponent by itself.
    const int code = step == -9 ? count : ((step + 9) << 3) + count;
    return static_cast<uint8_t>(sign | code);
}

}  // namespace tarpon
