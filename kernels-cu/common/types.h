// Element types and attributes shared by kernels, their launchers and host code.
//
// Included by everything: nvcc compiles it for GPUs, g++ compiles it for the simulator and for the
// CPU backend. Nothing of CUDA is needed by g++.
//
// half_t (binary16) and bf16_t (bfloat16) only carry bits; arithmetic happens in float or on packed
// pairs (ptx.cuh). Conversions round to nearest even and keep subnormals, infinities and NaN.
#pragma once

#include <bit>
#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define TARPON_DEVICE __device__ __forceinline__
#define TARPON_HOST_DEVICE __host__ __device__ __forceinline__
#define TARPON_KERNEL __global__
#define TARPON_LAUNCH_BOUNDS(threads, min_blocks) __launch_bounds__(threads, min_blocks)
#define TARPON_UNROLL _Pragma("unroll")
#define TARPON_NO_UNROLL _Pragma("unroll 1")
#else
#define TARPON_DEVICE inline
#define TARPON_HOST_DEVICE inline
#define TARPON_KERNEL
#define TARPON_LAUNCH_BOUNDS(threads, min_blocks)
#define TARPON_UNROLL
#define TARPON_NO_UNROLL
#endif

namespace tarpon {

struct half_t {
    uint16_t bits;
};
struct bf16_t {
    uint16_t bits;
};

// What one lane moves with one 8- or 16-byte access.
struct alignas(8) u32x2 {
    uint32_t x, y;
};
struct alignas(16) u32x4 {
    uint32_t x, y, z, w;
};

namespace detail {

// Shifts right and rounds to nearest even; 1 <= shift <= 31.
constexpr uint32_t shift_round_even(uint32_t value, int shift) {
    const uint32_t half = 1u << (shift - 1);
    const uint32_t odd = (value >> shift) & 1;
    return (value + half - 1 + odd) >> shift;
}

constexpr float half_bits_to_float(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16;
    const uint32_t magnitude = bits & 0x7fff;
    if (magnitude >= 0x7c00) {  // infinity, or NaN with its payload
        return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
    }
    if (magnitude >= 0x0400) {  // normal: rebias the exponent from 15 to 127
        return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
    }
    // Subnormal: magnitude counts units of 2^-24, exactly representable.
    const float value = float(magnitude) * 0x1p-24f;
    return sign ? -value : value;
}

constexpr uint16_t float_to_half_bits(float value) {
    const uint32_t x = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (x >> 16) & 0x8000;
    const uint32_t magnitude = x & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;                    // the NaN that cvt.f16.f32 gives
    if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);  // from 65520 on: infinity
    if (magnitude >= 0x38800000) {                                // 2^-14: normal
        return uint16_t(sign | shift_round_even(magnitude - (112u << 23), 13));
    }
    if (magnitude < 0x33000000) return uint16_t(sign);  // below 2^-25: zero
    const int shift = 126 - int(magnitude >> 23);       // 14 .. 24
    return uint16_t(sign | shift_round_even((magnitude & 0x7fffff) | 0x800000, shift));
}

constexpr uint16_t float_to_bf16_bits(float value) {
    const uint32_t x = std::bit_cast<uint32_t>(value);
    if ((x & 0x7fffffff) > 0x7f800000) return 0x7fff;  // the NaN that cvt.bf16.f32 gives
    return uint16_t(shift_round_even(x, 16));
}

}  // namespace detail

TARPON_HOST_DEVICE float to_float(float value) {
    return value;
}

TARPON_HOST_DEVICE float to_float(half_t value) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(value.bits));
#else
    return detail::half_bits_to_float(value.bits);
#endif
}

TARPON_HOST_DEVICE float to_float(bf16_t value) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(uint32_t(value.bits) << 16);
#else
    return std::bit_cast<float>(uint32_t(value.bits) << 16);
#endif
}

// from_float<T>(x): x rounded to the nearest T, ties to even.
template <class T>
TARPON_HOST_DEVICE T from_float(float value);

template <>
TARPON_HOST_DEVICE float from_float<float>(float value) {
    return value;
}

template <>
TARPON_HOST_DEVICE half_t from_float<half_t>(float value) {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(value))};
#else
    return {detail::float_to_half_bits(value)};
#endif
}

template <>
TARPON_HOST_DEVICE bf16_t from_float<bf16_t>(float value) {
#ifdef __CUDA_ARCH__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
    return {detail::float_to_bf16_bits(value)};
#endif
}

}  // namespace tarpon
