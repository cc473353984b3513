// The linear kernels with int8 activations on AVX512_VNNI: vpdpbusd adds four products of unsigned
// codes and signed activations to a 32-bit integer, a quarter of the instructions of fp32 FMA. The
// sums of a step of up to 128 inputs are exact; a step's sum is then scaled by both scales in
// binary32. Codes are multiplied with their bias, which comes off by the sum of the activations.
#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_gather.inl.h"
#include "cpu/linear_int8_avx512.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

// ---- Packing ----------------------------------------------------------------------------------

template <class T>
void pack_tile(const PackArgs &args) {
    uint32_t *packed = args.packed, *header = args.headers;
    const int step_inputs = args.step_units * kUnitRows;
    for (int64_t u = 0; u < args.units; u += args.step_units) {
        const int64_t units = args.units - u < args.step_units ? args.units - u : args.step_units;
        const int64_t inputs = args.k - u * kUnitRows;
        for (int r = 0; r < args.rows; ++r) {
            alignas(64) typename T::Bits gathered[kStepRows];
            const auto *x = inputs_in_order(args, r, u * kUnitRows, step_inputs, gathered);
            QuantizedStep step;
            quantize_step<T>(x, inputs < step_inputs ? inputs : step_inputs, &step);
            header[r] = __builtin_bit_cast(uint32_t, step.scale);
            header[args.rows + r] = static_cast<uint32_t>(step.sum);
            for (int64_t i = 0; i < 2 * units; ++i)
                packed[i * args.rows + r] = step.words[i];
        }
        header += kInt8HeaderWords * args.rows;
        packed += 2 * units * args.rows;
    }
}

// ---- The tile ---------------------------------------------------------------------------------

// vpdpbusd: to each 32-bit lane, four products of unsigned codes and signed activations. In
// assembly because GCC 12 copies the sum before and after the intrinsic, and so spills a third of
// them.
inline void add_products(__m512i &sum, __m512i codes, __m512i activations) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(activations));
}

template <class Codes>
struct TileKernel {
    // Not inlined: GCC allocates registers better for each shape alone.
    template <int kRows, int kVectors>
    [[gnu::noinline]] static void multiply(const TileArgs &t, float *totals);
};

template <class Codes>
template <int kRows, int kVectors>
void TileKernel<Codes>::multiply(const TileArgs &t, float *totals) {
    // Enough independent sums for a latency of 4 to 5 cycles; integers may be added in any order.
    constexpr int kChains = kRows * kVectors >= 5 ? 1 : 2;
    const uint8_t *codes = t.codes;
    const uint32_t *a = t.activations, *header = t.headers;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
        const int64_t last = first + t.step_units < t.units ? first + t.step_units : t.units;
        const auto *x_scales = reinterpret_cast<const float *>(header);
        const auto *x_sums = reinterpret_cast<const int32_t *>(header + kRows);
        header += kInt8HeaderWords * kRows;
        __m512i sum[kChains][kRows][kVectors];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const __m512i correction = _mm512_set1_epi32(-Codes::kBias * x_sums[r]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                sum[0][r][v] = correction;
                if constexpr (kChains > 1) sum[1][r][v] = _mm512_setzero_si512();
            }
        }
        for (int64_t u = first; u < last; ++u) {
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                // Read again for the upper half: kept, the packed codes would push sums out of the
                // registers.
                const uint8_t *unit = codes;
                __asm__("" : "+r"(unit));
                __m512i w[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v)
                    w[v] = Codes::four(unit + v * Codes::kUnitBytes, half);
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
                    const __m512i activations = _mm512_set1_epi32(static_cast<int>(a[r]));
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) {
                        __m512i &s = sum[half % kChains][r][v];
                        add_products(s, w[v], activations);
                    }
                }
                a += kRows;
            }
            codes += kVectors * Codes::kUnitBytes;
        }
        const int64_t group = step / t.steps_per_group;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const VectorScales<Codes::kBias> scales(t.scales, group, kVectors * kLanes, v * kLanes);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                __m512i s = sum[0][r][v];
                if constexpr (kChains > 1) s = _mm512_add_epi32(s, sum[1][r][v]);
                const __m512 scaled =
                    _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_set1_ps(x_scales[r]));
                const float x_sum =
                    scales.has_offset ? static_cast<float>(x_sums[r]) * x_scales[r] : 0.0f;
                add_step(totals + (r * kVectors + v) * kLanes, scaled, scales, x_sum);
            }
        }
    }
}

template <class T, class Codes>
constexpr LinearKernel kKernel = {
    pack_tile<T>, run_tile<TileKernel<Codes>, T>, 2, kInt8HeaderWords, kTileRows, 1};

template <class T>
const LinearKernel *kernel_for(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kKernel<T, UnsignedInt4>;
        case TARPON_WEIGHT_INT8:
            return &kKernel<T, UnsignedInt8>;
    }
    return nullptr;
}

}  // namespace

const LinearKernel *avx512_vnni_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return kernel_for<F32>(type);
        case TARPON_F16:
            return kernel_for<F16>(type);
        case TARPON_BF16:
            return kernel_for<Bf16>(type);
    }
    return nullptr;
}

}  // namespace tarpon::cpu
