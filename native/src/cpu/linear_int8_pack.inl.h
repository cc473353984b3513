// Rounds activations to int8 in plain C++, for the scalar and the AVX2 kernels. In an anonymous
// namespace, see linear_kernel.h.
#pragma once

#include "cpu/linear_gather.inl.h"
#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

// Inputs of a unit in the order of their bytes.
constexpr int kByteOrder[kUnitRows] = {0, 4, 1, 5, 2, 6, 3, 7};

constexpr int kInt8HeaderWords = 2;
constexpr int kInt8WordsPerUnit = 2;

// T has Bits, the type of an element in memory, and value(Bits). One step of one row: `units` units
// of x, of which `count` inputs count, to words of 4 bytes that are `stride` words apart.
template <class T>
void quantize_step(const typename T::Bits *x, int64_t count, int64_t units, uint32_t *out,
                   int64_t stride, float *scale, int32_t *sum) {
    float values[kStepRows];
    const int64_t inputs = units * kUnitRows;
    float max = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < inputs; ++i) {
        values[i] = i < count ? T::value(x[i]) : 0.0f;
        const float magnitude = __builtin_fabsf(values[i]);
        finite = finite && magnitude <= 3.40282347e38f;
        if (magnitude > max) max = magnitude;
    }
    // Below this 127 / max overflows; such a step counts as zeros.
    const bool zero = max < 0x1p-110f;
    const float inverse = finite && !zero ? 127.0f / max : 0.0f;
    *scale = !finite ? __builtin_nanf("") : zero ? 0.0f : max / 127.0f;
    *sum = 0;
    for (int64_t w = 0; w < units * kInt8WordsPerUnit; ++w) {
        uint32_t word = 0;
        for (int b = 0; b < 4; ++b) {
            const int64_t input = w / 2 * kUnitRows + kByteOrder[w % 2 * 4 + b];
            const float scaled = finite ? values[input] * inverse : 0.0f;
            const auto q = static_cast<int32_t>(__builtin_nearbyintf(scaled));
            *sum += q;
            word |= (static_cast<uint32_t>(q) & 255) << (8 * b);
        }
        out[w * stride] = word;
    }
}

// See linear_kernel.h.
template <class T>
void pack_tile_int8(const PackArgs &args) {
    auto *header = args.headers;
    uint32_t *packed = args.packed;
    for (int64_t u = 0; u < args.units; u += args.step_units) {
        const int64_t units = args.units - u < args.step_units ? args.units - u : args.step_units;
        for (int r = 0; r < args.rows; ++r) {
            typename T::Bits gathered[kStepRows];
            const auto *x = inputs_in_order(args, r, u * kUnitRows, kStepRows, gathered);
            float scale;
            int32_t sum;
            quantize_step<T>(x, args.k - u * kUnitRows, units, packed + r, args.rows, &scale, &sum);
            header[r] = __builtin_bit_cast(uint32_t, scale);
            header[args.rows + r] = static_cast<uint32_t>(sum);
        }
        header += kInt8HeaderWords * args.rows;
        packed += units * kInt8WordsPerUnit * args.rows;
    }
}

}  // namespace
}  // namespace tarpon::cpu
