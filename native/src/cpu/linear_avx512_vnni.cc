// The linear kernels with int8 activations on AVX512_VNNI: vpdpbusd adds four products of unsigned
// codes and signed activations to a 32-bit integer, a quarter of the instructions of fp32 FMA. The
// sums of a step of 128 inputs are exact; a step's sum is then scaled by both scales in binary32.
#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kHeaderWords = 2;

// ---- Packing: one row of one step -------------------------------------------------------------

struct QuantizedStep {
    float scale;
    int32_t correction;
    alignas(64) uint32_t words[2 * kStepUnits];
};

template <class T>
void quantize_step(const void *row, int64_t first, int64_t k, QuantizedStep *out) {
    constexpr int kVectors = kStepRows / 16;
    __m512 x[kVectors];
    // The bits of |x| order like integers, with infinity and NaN at the top.
    __m512i top = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; ++i) {
        x[i] = T::load(row, first + 16 * i, lane_mask(k - first - 16 * i));
        const __m512i magnitude =
            _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fffffff));
        top = _mm512_max_epi32(top, magnitude);
    }
    const auto max_bits = static_cast<uint32_t>(_mm512_reduce_max_epi32(top));
    const float max = __builtin_bit_cast(float, max_bits);
    const bool finite = max_bits < 0x7f800000;
    // Below this 127 / max overflows; such a step counts as zeros.
    const bool zero = max < 0x1p-110f;
    const __m512 inverse = _mm512_set1_ps(finite && !zero ? 127.0f / max : 0.0f);
    out->scale = !finite ? __builtin_nanf("") : zero ? 0.0f : max / 127.0f;
    // Rows 0,4,1,5 and 2,6,3,7 of each unit, as the nibbles of the codes lie.
    const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; ++i) {
        const __m512 scaled = finite ? _mm512_mul_ps(x[i], inverse) : _mm512_setzero_ps();
        const __m512i q = _mm512_cvtps_epi32(scaled);  // to nearest even
        sum = _mm512_add_epi32(sum, q);
        _mm_store_si128(reinterpret_cast<__m128i *>(out->words + 4 * i),
                        _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(q), order));
    }
    out->correction = -8 * _mm512_reduce_add_epi32(sum);
}

template <class T>
void pack_tile(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed) {
    for (int64_t u = 0; u < units; u += kStepUnits) {
        const int64_t step_units = units - u < kStepUnits ? units - u : kStepUnits;
        for (int r = 0; r < rows; ++r) {
            QuantizedStep step;
            quantize_step<T>(static_cast<const char *>(x) + r * k * T::kBytes, u * kUnitRows, k,
                             &step);
            packed[r] = __builtin_bit_cast(uint32_t, step.scale);
            packed[rows + r] = static_cast<uint32_t>(step.correction);
            uint32_t *out = packed + kHeaderWords * rows + r;
            for (int64_t i = 0; i < 2 * step_units; ++i)
                out[i * rows] = step.words[i];
        }
        packed += (kHeaderWords + 2 * step_units) * rows;
    }
}

// ---- The tile ---------------------------------------------------------------------------------

// vpdpbusd: to each 32-bit lane, four products of unsigned codes and signed activations. In
// assembly because GCC 12 copies the sum before and after the intrinsic, and so spills a third of
// them.
inline void add_products(__m512i &sum, __m512i codes, __m512i activations) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(activations));
}

struct TileKernel {
    template <int kRows, int kVectors>
    static void multiply(const TileArgs &t, float *totals);
};

template <int kRows, int kVectors>
void TileKernel::multiply(const TileArgs &t, float *totals) {
    // As in linear_avx512.inl.h: enough independent sums for a latency of 4 to 5 cycles.
    constexpr int kChains = kRows * kVectors >= 5 ? 1 : 2;
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t *codes = t.codes;
    const uint32_t *a = t.activations;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += kStepUnits, ++step) {
        const int64_t last = first + kStepUnits < t.units ? first + kStepUnits : t.units;
        const auto *activation_scales = reinterpret_cast<const float *>(a);
        __m512i sum[kChains][kRows][kVectors];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const __m512i correction = _mm512_set1_epi32(static_cast<int>(a[kRows + r]));
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                sum[0][r][v] = correction;
                if constexpr (kChains > 1) sum[1][r][v] = _mm512_setzero_si512();
            }
        }
        a += kHeaderWords * kRows;
        for (int64_t u = first; u < last; ++u) {
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                // Read again for the upper half: kept, the packed codes would push sums out of the
                // registers.
                const uint8_t *unit = codes;
                __asm__("" : "+r"(unit));
                __m512i w[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    const __m512i packed = _mm512_load_si512(unit + v * kUnitBytes);
                    w[v] = _mm512_and_si512(half ? _mm512_srli_epi16(packed, 4) : packed, nibble);
                }
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
            codes += kVectors * kUnitBytes;
        }
        const uint16_t *scales = t.scales + step / t.steps_per_group * kVectors * kLanes;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const __m512 scale = _mm512_cvtph_ps(
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(scales + v * kLanes)));
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                __m512i s = sum[0][r][v];
                if constexpr (kChains > 1) s = _mm512_add_epi32(s, sum[1][r][v]);
                const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(activation_scales[r]));
                float *total = totals + (r * kVectors + v) * kLanes;
                _mm512_store_ps(
                    total, _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), both, _mm512_load_ps(total)));
            }
        }
    }
}

template <class T>
constexpr LinearKernel kKernel = {pack_tile<T>, run_tile<TileKernel, T>, 2, kHeaderWords,
                                  kTileRows};

}  // namespace

const LinearKernel *avx512_vnni_int8_linear_kernel(tarpon_dtype dtype) {
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
