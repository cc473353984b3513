// The linear kernels with int8 activations of AVX2: vpmaddubsw adds two products of unsigned codes
// and signed activations to 16 bits. Codes go in as nibbles, so that 8 such pairs of products, at
// most 2 * 15 * 127 each, fit 16 bits; vpmaddwd then widens them. 8-bit codes go in twice, their
// upper nibbles counting 16. So all sums of a step are exact, as with VNNI.
#include "cpu/linear_avx2.inl.h"
#include "cpu/linear_int8_pack.inl.h"

namespace tarpon::cpu {
namespace {

// 4 x 2 sums of 8 columns, two weights and an activation fit the 16 registers.
constexpr int kTileRows = 4;
// Units whose products fit 16 bits: two pairs of products each.
constexpr int kNarrowUnits = 4;
static_assert(2 * kNarrowUnits * 2 * 15 * 127 <= 32767);

// nibbles(unit, four, half, pass): of 8 columns, the first or the second 8 of a vector, and four
// rows, the first or the second of a unit.
struct Int4Codes {
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;
    static constexpr int kPasses = 1;
    static __m256i nibbles(const uint8_t *unit, int four, int half, int) {
        const auto *lanes = reinterpret_cast<const __m256i *>(unit + 32 * half);
        const __m256i codes = _mm256_srli_epi16(_mm256_load_si256(lanes), 4 * four);
        return _mm256_and_si256(codes, _mm256_set1_epi8(15));
    }
};

struct Int8Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    static constexpr int kPasses = 2;
    static __m256i nibbles(const uint8_t *unit, int four, int half, int pass) {
        const auto *lanes =
            reinterpret_cast<const __m256i *>(unit + kVectorBytes * four + 32 * half);
        const __m256i codes = _mm256_srli_epi16(_mm256_load_si256(lanes), 4 * pass);
        return _mm256_and_si256(codes, _mm256_set1_epi8(15));
    }
};

// One vector over one step.
struct StepArgs {
    const uint8_t *unit;  // the first, and from one to the next
    int64_t unit_stride;
    int64_t units;
    const uint32_t *activations;  // [units][2][rows]
};

// Adds the products of codes and int8 to sums [kRows][2].
template <class Codes, int kRows>
void multiply_step(const StepArgs &args, __m256i (*sums)[2]) {
    const uint8_t *unit = args.unit;
    const uint32_t *a = args.activations;
    for (int64_t first = 0; first < args.units; first += kNarrowUnits) {
        const int64_t units = args.units - first < kNarrowUnits ? args.units - first : kNarrowUnits;
        for (int pass = 0; pass < Codes::kPasses; ++pass) {
            __m256i narrow[kRows][2];
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r)
                narrow[r][0] = narrow[r][1] = _mm256_setzero_si256();
            for (int64_t u = 0; u < units; ++u) {
#pragma GCC unroll 2
                for (int four = 0; four < 2; ++four) {
                    const uint8_t *codes = unit + u * args.unit_stride;
                    const __m256i low = Codes::nibbles(codes, four, 0, pass);
                    const __m256i high = Codes::nibbles(codes, four, 1, pass);
                    const uint32_t *x = a + (2 * u + four) * kRows;
#pragma GCC unroll 4
                    for (int r = 0; r < kRows; ++r) {
                        const __m256i q = _mm256_set1_epi32(static_cast<int>(x[r]));
                        narrow[r][0] = _mm256_add_epi16(narrow[r][0], _mm256_maddubs_epi16(low, q));
                        narrow[r][1] =
                            _mm256_add_epi16(narrow[r][1], _mm256_maddubs_epi16(high, q));
                    }
                }
            }
            const __m256i weight = _mm256_set1_epi16(pass == 0 ? 1 : 16);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                for (int h = 0; h < 2; ++h) {
                    sums[r][h] =
                        _mm256_add_epi32(sums[r][h], _mm256_madd_epi16(narrow[r][h], weight));
                }
            }
        }
        unit += units * args.unit_stride;
        a += units * kInt8WordsPerUnit * kRows;
    }
}

template <class Codes, int kRows>
void multiply_tile(const TileArgs &t, float *totals) {
    StepArgs args{};
    args.unit_stride = t.vectors * Codes::kUnitBytes;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
        args.units = t.units - first < t.step_units ? t.units - first : t.step_units;
        args.activations = t.activations + first * kInt8WordsPerUnit * kRows;
        const uint32_t *header = t.headers + step * kInt8HeaderWords * kRows;
        const auto *x_scales = reinterpret_cast<const float *>(header);
        const auto *x_sums = reinterpret_cast<const int32_t *>(header + kRows);
        const int64_t group = step / t.steps_per_group;
        for (int v = 0; v < t.vectors; ++v) {
            args.unit = t.codes + first * args.unit_stride + v * Codes::kUnitBytes;
            __m256i sums[kRows][2];
            for (int r = 0; r < kRows; ++r)
                sums[r][0] = sums[r][1] = _mm256_set1_epi32(-Codes::kBias * x_sums[r]);
            multiply_step<Codes, kRows>(args, sums);
            for (int h = 0; h < 2; ++h) {
                const HalfScales<Codes::kBias> scales(t.scales, group, t.vectors * kLanes,
                                                      v * kLanes + h * kHalf);
                for (int r = 0; r < kRows; ++r) {
                    const __m256 scaled =
                        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][h]), _mm256_set1_ps(x_scales[r]));
                    add_step(totals + r * kTotalsStride + v * kLanes + h * kHalf, scaled, scales,
                             static_cast<float>(x_sums[r]) * x_scales[r]);
                }
            }
        }
    }
}

template <class T, class Codes>
void run_tile(const TileArgs &t) {
    alignas(32) float totals[kTileRows * kTotalsStride] = {};
    switch (t.rows) {
        case 1:
            multiply_tile<Codes, 1>(t, totals);
            break;
        case 2:
            multiply_tile<Codes, 2>(t, totals);
            break;
        case 3:
            multiply_tile<Codes, 3>(t, totals);
            break;
        default:
            multiply_tile<Codes, kTileRows>(t, totals);
    }
    store_tile<T>(t, totals);
}

template <class T, class Codes>
constexpr LinearKernel kKernel = {pack_tile_int8<T>, run_tile<T, Codes>, kInt8WordsPerUnit,
                                  kInt8HeaderWords,  kTileRows,          1};

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

const LinearKernel *avx2_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
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
