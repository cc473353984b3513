// The arithmetic that update rules and codecs may use, on one lane: a float.
//
// rules.h and codec.h are templates over a lane type. On GPUs, on the simulator and on the CPU's
// scalar path it is float and these functions apply; the CPU's vector paths bring types of 16
// floats with functions of the same names (native/src/cpu/optim_vector_avx512.h). All of them are
// correctly rounded, and nothing is contracted (-ffp-contract=off, -fmad=false), so that every
// device computes the same bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "common/types.h"

namespace tarpon::optim::lanes {

TARPON_HOST_DEVICE uint32_t as_bits(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(x);
#else
    return std::bit_cast<uint32_t>(x);
#endif
}

TARPON_HOST_DEVICE float as_float(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    return std::bit_cast<float>(bits);
#endif
}

// a * b + c, rounded once.
TARPON_HOST_DEVICE float fma(float a, float b, float c) {
    return ::fmaf(a, b, c);
}

TARPON_HOST_DEVICE float sqrt(float x) {
    return ::sqrtf(x);
}

// The second argument if either is a NaN, as the vector instructions do.
TARPON_HOST_DEVICE float max(float a, float b) {
    return a > b ? a : b;
}
TARPON_HOST_DEVICE float min(float a, float b) {
    return a < b ? a : b;
}

TARPON_HOST_DEVICE float abs(float x) {
    return as_float(as_bits(x) & 0x7fffffffu);
}

// -1, 0 or 1.
TARPON_HOST_DEVICE float sign(float x) {
    return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
}

// Rounds to an integer, ties to even, for |x| < 2^22.
TARPON_HOST_DEVICE float round_to_integer(float x) {
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

// x = mantissa * 2^exponent with mantissa in [1, 2); x positive and normal.
TARPON_HOST_DEVICE float exponent(float x) {
    return float(int(as_bits(x) >> 23) - 127);
}
TARPON_HOST_DEVICE float mantissa(float x) {
    return as_float((as_bits(x) & 0x7fffffu) | 0x3f800000u);
}

// x * 2^n for an integer n with both 2^n and the product normal.
TARPON_HOST_DEVICE float scale_by_power_of_two(float x, float n) {
    return x * as_float(uint32_t(int(n) + 127) << 23);
}

// a where x < y, else b.
TARPON_HOST_DEVICE float select_less(float x, float y, float a, float b) {
    return x < y ? a : b;
}

// |magnitude| with the sign of x.
TARPON_HOST_DEVICE float copy_sign(float magnitude, float x) {
    return as_float((as_bits(magnitude) & 0x7fffffffu) | (as_bits(x) & 0x80000000u));
}

}  // namespace tarpon::optim::lanes
