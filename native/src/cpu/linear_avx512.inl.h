// The AVX-512 kernel, shared by linear_avx512.cc and linear_avx512_bf16.cc, which compile it with
// their own instruction sets. Everything here is in an anonymous namespace, so that each has its
// own copy; see linear_kernel.h for the layout and why.
//
// A tile of kRows rows by kVectors vectors keeps its sums in registers for a step of up to 128 inputs,
// then adds them, times the scales, to the totals. The weights are multiplied as the integers
// code - 8, which every format here holds exactly: the scale is applied once, in binary32, so that
// the only roundings are those of the binary32 sums.
//
// The unpacking (one shift and one vpermw for 32 weights) is repeated for every tile of rows. It
// costs nothing from 3 rows up: Zen 4 permutes and shifts on ports that the products leave idle,
// and 4-bit weights are read from L2 with a quarter of the traffic of unpacked ones.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

// ---- The tile ---------------------------------------------------------------------------------

// Entry c and entry c + 16: bfloat16(c - 8). vpermw looks at 5 bits of each 16-bit lane; the fifth
// belongs to the next code, and with both halves equal it needs no mask.
inline __m512i code_table() {
    alignas(64) static constexpr uint16_t kTable[32] = {
        0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000,
        0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
        0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    return _mm512_load_si512(kTable);
}

// How a pair of weights meets a pair of activations. An Arithmetic has kWords (of a pair, see
// linear_kernel.h), Weights (what 16 columns' pairs are multiplied as), weights(bfloat16 pairs) and
// multiply_add(weights, words of a pair of activations, sum).
template <class Arithmetic>
struct TileKernel {
    template <int kRows, int kVectors>
    static void multiply(const TileArgs &t, float *totals);
};

template <class Arithmetic>
template <int kRows, int kVectors>
void TileKernel<Arithmetic>::multiply(const TileArgs &t, float *totals) {
    // Products have a latency of 4 to 6 cycles and start one a cycle: that many independent sums.
    constexpr int kChains = kRows * kVectors >= 6 ? 1 : kRows * kVectors >= 3 ? 2 : 4;
    const __m512i table = code_table();
    const uint8_t *codes = t.codes;
    const uint32_t *a = t.activations;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
        const int64_t last = first + t.step_units < t.units ? first + t.step_units : t.units;
        __m512 sum[kChains][kRows][kVectors];
#pragma GCC unroll 4
        for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v)
                    sum[c][r][v] = _mm512_setzero_ps();
            }
        }
        for (int64_t u = first; u < last; ++u) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                typename Arithmetic::Weights w[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    const __m512i packed = _mm512_load_si512(codes + v * kUnitBytes);
                    const __m512i index = _mm512_srli_epi16(packed, static_cast<unsigned>(4 * j));
                    w[v] = Arithmetic::weights(_mm512_permutexvar_epi16(index, table));
                }
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) {
                        __m512 &s = sum[j % kChains][r][v];
                        s = Arithmetic::multiply_add(w[v], a + r * Arithmetic::kWords, s);
                    }
                }
                a += kRows * Arithmetic::kWords;
            }
            codes += kVectors * kUnitBytes;
        }
        const uint16_t *scales = t.scales + step / t.steps_per_group * kVectors * kLanes;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const __m512 scale = _mm512_cvtph_ps(
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(scales + v * kLanes)));
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                __m512 s = sum[0][r][v];
#pragma GCC unroll 4
                for (int c = 1; c < kChains; ++c)
                    s = _mm512_add_ps(s, sum[c][r][v]);
                float *total = totals + (r * kVectors + v) * kLanes;
                _mm512_store_ps(total, _mm512_fmadd_ps(s, scale, _mm512_load_ps(total)));
            }
        }
    }
}

// ---- Packing ----------------------------------------------------------------------------------

// Packer::pack(row, i, k, out) packs the 16 pairs from input i on, zero from input k on.
template <class Packer>
void pack_tile(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed) {
    constexpr int kWords = Packer::kWords;
    const int64_t pairs = units * kUnitRows / 2;
    for (int r = 0; r < rows; ++r) {
        const auto *row = static_cast<const char *>(x) + r * k * Packer::Elem::kBytes;
        for (int64_t pair = 0; pair < pairs; pair += 16) {
            alignas(64) uint32_t words[16 * kWords];
            Packer::pack(row, 2 * pair, k, words);
            const int64_t count = pairs - pair < 16 ? pairs - pair : 16;
            uint32_t *out = packed + (pair * rows + r) * kWords;
            for (int64_t p = 0; p < count; ++p, out += rows * kWords) {
                for (int w = 0; w < kWords; ++w)
                    out[w] = words[p * kWords + w];
            }
        }
    }
}

template <class Arithmetic, class Packer>
constexpr LinearKernel kLinearKernel = {pack_tile<Packer>,
                                        run_tile<TileKernel<Arithmetic>, typename Packer::Elem>,
                                        4 * Arithmetic::kWords, 0, kTileRows};

}  // namespace
}  // namespace tarpon::cpu
