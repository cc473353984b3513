// The linear kernels with int8 activations on AVX512_VNNI: vpdpbusd adds four products of unsigned
// codes and signed activations to a 32-bit integer, a quarter of the instructions of fp32 FMA. The
// sums of a step of up to 128 inputs are exact; a step's sum is then scaled by both scales in
// binary32. Codes are multiplied with their bias, which comes off by the sum of the activations.
#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_gather.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kHeaderWords = 2;

// ---- Packing: one row of one step -------------------------------------------------------------

struct QuantizedStep {
    float scale;
    int32_t sum;
    alignas(64) uint32_t words[2 * kStepUnits];
};

// The first `count` of the step's inputs x; the others are zeros.
template <class T>
void quantize_step(const void *x_step, int64_t count, QuantizedStep *out) {
    constexpr int kVectors = kStepRows / 16;
    __m512 x[kVectors];
    // The bits of |x| order like integers, with infinity and NaN at the top.
    __m512i top = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; ++i) {
        x[i] = T::load(x_step, 16 * i, lane_mask(count - 16 * i));
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
    out->sum = _mm512_reduce_add_epi32(sum);
}

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
        header += kHeaderWords * args.rows;
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

// The unsigned codes of 16 columns and four rows, the first or the second half of a unit's 8.
struct Int4Codes {
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;
    static __m512i four(const uint8_t *unit, int half) {
        const __m512i packed = _mm512_load_si512(unit);
        return _mm512_and_si512(half ? _mm512_srli_epi16(packed, 4) : packed, _mm512_set1_epi8(15));
    }
};

struct Int8Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    static __m512i four(const uint8_t *unit, int half) {
        return _mm512_load_si512(unit + half * kVectorBytes);
    }
};

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
        header += kHeaderWords * kRows;
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
            const VectorScales<Codes::kBias> scales(t.scales, (group * kVectors + v) * kLanes);
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
    pack_tile<T>, run_tile<TileKernel<Codes>, T>, 2, kHeaderWords, kTileRows, 1};

template <class T>
const LinearKernel *kernel_for(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kKernel<T, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kKernel<T, Int8Codes>;
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
