// The linear kernels of AVX2 with FMA and F16C: every dtype through binary32 FMAs.
//
// The tile works on one vector of 16 columns at a time: 16 registers hold 5 x 2 sums of 8 columns
// beside two weights, an activation and constants. The panel is walked step by step, each step's
// vectors one after another, so that the codes still stream through once.
#include <immintrin.h>

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kHalf = 8;  // columns of a register
constexpr int kTileRows = 5;

struct F32 {
    static float load(const void *x, int64_t i) { return static_cast<const float *>(x)[i]; }
    static void store8(void *y, int64_t i, __m256 v) {
        _mm256_storeu_ps(static_cast<float *>(y) + i, v);
    }
    static constexpr int kBytes = 4;
};

struct F16 {
    static float load(const void *x, int64_t i) {
        return _cvtsh_ss(static_cast<const uint16_t *>(x)[i]);
    }
    static void store8(void *y, int64_t i, __m256 v) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(static_cast<uint16_t *>(y) + i),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    static constexpr int kBytes = 2;
};

struct Bf16 {
    static float load(const void *x, int64_t i) {
        const uint32_t bits = uint32_t{static_cast<const uint16_t *>(x)[i]} << 16;
        return __builtin_bit_cast(float, bits);
    }
    static void store8(void *y, int64_t i, __m256 v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i rounded =
            _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const __m256i upper =
            _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan)), 16);
        _mm_storeu_si128(
            reinterpret_cast<__m128i *>(static_cast<uint16_t *>(y) + i),
            _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
    }
    static constexpr int kBytes = 2;
};

// code - 8 of the lowest nibble of each lane, in binary32: 2^23 + code is exact and has the code
// in its lowest bits.
__m256 weights(__m256i lanes) {
    const __m256i magic = _mm256_set1_epi32(0x4b000000);
    const __m256i code = _mm256_and_si256(lanes, _mm256_set1_epi32(15));
    return _mm256_sub_ps(_mm256_castsi256_ps(_mm256_or_si256(code, magic)),
                         _mm256_set1_ps(8388608.0f + 8.0f));
}

// The sums of one vector over one step: [units][4 pairs][kRows][2] activations.
template <int kRows>
void multiply_step(const uint8_t *codes, int unit_stride, int64_t units, const float *a,
                   const uint16_t *scales, float (*total)[kMaxPanelVectors * kLanes]) {
    // Two FMAs start a cycle and take four: eight independent sums.
    constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
    __m256 sum[kChains][kRows][2];
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
            sum[c][r][0] = sum[c][r][1] = _mm256_setzero_ps();
    }
    for (int64_t u = 0; u < units; ++u, codes += unit_stride) {
#pragma GCC unroll 8
        for (int i = 0; i < kUnitRows; ++i) {
            const int shift = 16 * (i % 2) + 4 * (i / 2);
            const auto *unit = reinterpret_cast<const __m256i *>(codes);
            const __m256 low = weights(_mm256_srli_epi32(_mm256_load_si256(unit), shift));
            const __m256 high = weights(_mm256_srli_epi32(_mm256_load_si256(unit + 1), shift));
            const float *pair = a + i / 2 * kRows * 2 + i % 2;
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const __m256 value = _mm256_broadcast_ss(pair + 2 * r);
                __m256 *s = sum[i % kChains][r];
                s[0] = _mm256_fmadd_ps(low, value, s[0]);
                s[1] = _mm256_fmadd_ps(high, value, s[1]);
            }
        }
        a += 4 * kRows * 2;
    }
    for (int h = 0; h < 2; ++h) {
        const __m256 scale =
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(scales + h * kHalf)));
        for (int r = 0; r < kRows; ++r) {
            __m256 s = sum[0][r][h];
#pragma GCC unroll 4
            for (int c = 1; c < kChains; ++c)
                s = _mm256_add_ps(s, sum[c][r][h]);
            float *out = total[r] + h * kHalf;
            _mm256_store_ps(out, _mm256_fmadd_ps(s, scale, _mm256_load_ps(out)));
        }
    }
}

// Stores 8 columns, or fewer at the right edge, by way of a buffer.
template <class T>
void store_columns(void *y, int64_t i, const float *total, int64_t count) {
    const __m256 v = _mm256_load_ps(total);
    if (count >= kHalf) return T::store8(y, i, v);
    alignas(32) unsigned char buffer[kHalf * T::kBytes];
    T::store8(buffer, 0, v);
    __builtin_memcpy(static_cast<char *>(y) + i * T::kBytes, buffer,
                     static_cast<size_t>(count * T::kBytes));
}

template <class T, int kRows>
void multiply_tile(const TileArgs &t) {
    alignas(32) float total[kRows][kMaxPanelVectors * kLanes] = {};
    const uint8_t *codes = t.codes;
    const auto *a = reinterpret_cast<const float *>(t.activations);
    const int unit_stride = t.vectors * kUnitBytes;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += kStepUnits, ++step) {
        const int64_t units = t.units - first < kStepUnits ? t.units - first : kStepUnits;
        const uint16_t *scales = t.scales + step / t.steps_per_group * t.vectors * kLanes;
        for (int v = 0; v < t.vectors; ++v) {
            // The totals of vector v begin at its first column.
            auto *columns =
                reinterpret_cast<float(*)[kMaxPanelVectors * kLanes]>(&total[0][v * kLanes]);
            multiply_step<kRows>(codes + v * kUnitBytes, unit_stride, units, a, scales + v * kLanes,
                                 columns);
        }
        codes += units * unit_stride;
        a += units * kUnitRows * kRows;
    }
    for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < t.columns; c += kHalf) {
            store_columns<T>(t.y, r * t.y_stride_elems + c, total[r] + c, t.columns - c);
        }
    }
}

template <class T>
void run_tile(const TileArgs &t) {
    switch (t.rows) {
        case 1:
            return multiply_tile<T, 1>(t);
        case 2:
            return multiply_tile<T, 2>(t);
        case 3:
            return multiply_tile<T, 3>(t);
        case 4:
            return multiply_tile<T, 4>(t);
        default:
            return multiply_tile<T, kTileRows>(t);
    }
}

template <class T>
void pack_tile(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed) {
    auto *out = reinterpret_cast<float *>(packed);
    for (int r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < units * kUnitRows; ++i) {
            out[(i / 2 * rows + r) * 2 + i % 2] = i < k ? T::load(x, r * k + i) : 0.0f;
        }
    }
}

template <class T>
constexpr LinearKernel kKernel = {pack_tile<T>, run_tile<T>, 8, 0, kTileRows};

}  // namespace

const LinearKernel *avx2_linear_kernel(tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return &kKernel<F32>;
        case TARPON_F16:
            return &kKernel<F16>;
        case TARPON_BF16:
            return &kKernel<Bf16>;
    }
    return nullptr;
}

}  // namespace tarpon::cpu
