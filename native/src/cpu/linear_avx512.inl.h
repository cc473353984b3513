// The AVX-512 kernel, shared by linear_avx512.cc and linear_avx512_bf16.cc, which compile it with
// their own instruction sets. Everything here is in an anonymous namespace, so that each has its
// own copy; see linear_kernel.h for the layout and why.
//
// A tile of kRows rows by kVectors vectors keeps its sums in registers for a step of up to 128
// inputs, then adds them, times the scales, to the totals. The weights are multiplied as integers
// (or e4m3 numbers), which bfloat16 and binary32 hold exactly: the scale is applied once, in
// binary32, so that the only roundings are those of the binary32 sums.
//
// The unpacking (for 4-bit codes one shift and one vpermw for 32 weights) is repeated for every
// tile of rows. It costs little from 3 rows up: Zen 4 permutes and shifts on ports that the
// products leave idle, and codes are read from L2 with a fraction of the traffic of their values.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_avx512_codes.inl.h"
#include "cpu/linear_gather.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

// ---- The tile ---------------------------------------------------------------------------------

// How a pair of weights meets a pair of activations. An Arithmetic has kWords (of a pair, see
// linear_kernel.h), Weights (what 16 columns' pairs are multiplied as), weights(codes, unit, pair)
// and multiply_add(weights, words of a pair of activations, sum).
template <class Arithmetic, class Codes>
struct TileKernel {
    // Not inlined: GCC allocates registers better for each shape alone.
    template <int kRows, int kVectors>
    [[gnu::noinline]] static void multiply(const TileArgs &t, float *totals);
};

template <class Arithmetic, class Codes>
template <int kRows, int kVectors>
void TileKernel<Arithmetic, Codes>::multiply(const TileArgs &t, float *totals) {
    const Codes decoder;
    const uint8_t *codes = t.codes;
    const uint32_t *a = t.activations;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
        const int64_t last = first + t.step_units < t.units ? first + t.step_units : t.units;
        __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                sum[r][v] = _mm512_setzero_ps();
        }
        for (int64_t u = first; u < last; ++u) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                typename Arithmetic::Weights w[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v)
                    w[v] = Arithmetic::weights(decoder, codes + v * Codes::kUnitBytes, j);
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) {
                        sum[r][v] =
                            Arithmetic::multiply_add(w[v], a + r * Arithmetic::kWords, sum[r][v]);
                    }
                }
                a += kRows * Arithmetic::kWords;
            }
            codes += kVectors * Codes::kUnitBytes;
        }
        const int64_t group = step / t.steps_per_group;
        const auto *x_sums = reinterpret_cast<const float *>(t.headers) + step * kRows;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const VectorScales<Codes::kBias> scales(t.scales, group, kVectors * kLanes, v * kLanes);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                add_step(totals + (r * kVectors + v) * kLanes, sum[r][v], scales,
                         scales.has_offset ? x_sums[r] : 0.0f);
            }
        }
    }
}

// ---- Packing ----------------------------------------------------------------------------------

// Packer::pack(x, count, out) packs 32 inputs into 16 pairs, those from `count` on as zeros.
template <class Packer>
void pack_tile(const PackArgs &args) {
    using Elem = typename Packer::Elem;
    constexpr int kWords = Packer::kWords;
    const int64_t pairs = args.units * kUnitRows / 2;
    const int step_pairs = args.step_units * kUnitRows / 2;
    for (int r = 0; r < args.rows; ++r) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t pair = 0; pair < pairs; pair += 16) {
            alignas(64) typename Elem::Bits gathered[32];
            alignas(64) uint32_t words[16 * kWords];
            const auto *x = inputs_in_order(args, r, 2 * pair, 32, gathered);
            Packer::pack(x, args.k - 2 * pair, words);
            const int64_t count = pairs - pair < 16 ? pairs - pair : 16;
            uint32_t *out = args.packed + (pair * args.rows + r) * kWords;
            for (int64_t p = 0; p < count; ++p, out += args.rows * kWords) {
                for (int w = 0; w < kWords; ++w)
                    out[w] = words[p * kWords + w];
            }
            if (!args.headers) continue;
            // Steps end where 16 pairs do, or at the end.
            sum = _mm512_add_ps(sum, Elem::load(x, 0, lane_mask(args.k - 2 * pair)));
            sum = _mm512_add_ps(sum, Elem::load(x, 16, lane_mask(args.k - 2 * pair - 16)));
            if ((pair + 16) % step_pairs == 0 || pair + 16 >= pairs) {
                const float total = _mm512_reduce_add_ps(sum);
                args.headers[pair / step_pairs * args.rows + r] =
                    __builtin_bit_cast(uint32_t, total);
                sum = _mm512_setzero_ps();
            }
        }
    }
}

template <class Arithmetic, class Packer, class Codes>
constexpr LinearKernel kLinearKernel = {
    pack_tile<Packer>,
    run_tile<TileKernel<Arithmetic, Codes>, typename Packer::Elem>,
    4 * Arithmetic::kWords,
    1,
    kTileRows,
    1};

// The kernel for a type of weights.
template <class Arithmetic, class Packer>
const LinearKernel *kernel_for(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kLinearKernel<Arithmetic, Packer, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kLinearKernel<Arithmetic, Packer, Int8Codes>;
        case TARPON_WEIGHT_FP8_E4M3:
            return &kLinearKernel<Arithmetic, Packer, E4m3Codes>;
    }
    return nullptr;
}

}  // namespace
}  // namespace tarpon::cpu
