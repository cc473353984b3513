// The linear kernels of AVX2 with FMA and F16C: every dtype through binary32 FMAs.
//
// A tile works on one vector of 16 columns at a time, step by step. Up to 5 rows multiply the codes
// as they are unpacked. More are cut into blocks of up to 6, whose 6 x 2 sums of 8 columns fill 16
// registers beside two weights and an activation: there the step's weights are unpacked once, into
// 8 KiB of L1, and every block reads them.
#include <immintrin.h>

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kHalf = 8;  // columns of a register
constexpr int kBlockRows = 6;
constexpr int kDirectRows = 5;
constexpr int kTileRows = 12 * kBlockRows;

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

// The weights of 16 columns by 8 rows, unpacked as they are read.
class PackedUnit {
  public:
    explicit PackedUnit(const uint8_t *codes)
        : low_(reinterpret_cast<const __m256i *>(codes)), high_(low_ + 1) {}
    __m256 low(int row) const { return load(low_, row); }
    __m256 high(int row) const { return load(high_, row); }

  private:
    static __m256 load(const __m256i *lanes, int row) {
        return weights(_mm256_srli_epi32(_mm256_load_si256(lanes), 16 * (row % 2) + 4 * (row / 2)));
    }
    const __m256i *low_, *high_;
};

// The same, unpacked before: [8 rows][16 columns].
class UnpackedUnit {
  public:
    explicit UnpackedUnit(const uint8_t *values)
        : values_(reinterpret_cast<const float *>(values)) {}
    __m256 low(int row) const { return _mm256_load_ps(values_ + row * kLanes); }
    __m256 high(int row) const { return _mm256_load_ps(values_ + row * kLanes + kHalf); }
    static constexpr int kBytes = kUnitRows * kLanes * 4;

  private:
    const float *values_;
};

// One vector over one step, for one block of rows.
struct StepArgs {
    const uint8_t *unit;  // the first, and from one to the next
    int unit_stride;
    int64_t units;
    const float *activations;  // [units][4 pairs][rows][2]
    const uint16_t *scales;
    float *totals;  // of the first row and column; rows are kTotalsStride apart
};

constexpr int kTotalsStride = kMaxPanelVectors * kLanes;

template <class Unit, int kRows>
void multiply_step(const StepArgs &args) {
    const uint8_t *codes = args.unit;
    const float *a = args.activations;
    // Two FMAs start a cycle and take four: eight independent sums.
    constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
    __m256 sum[kChains][kRows][2];
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
            sum[c][r][0] = sum[c][r][1] = _mm256_setzero_ps();
    }
    for (int64_t u = 0; u < args.units; ++u, codes += args.unit_stride) {
        const Unit unit(codes);
#pragma GCC unroll 8
        for (int i = 0; i < kUnitRows; ++i) {
            const __m256 low = unit.low(i), high = unit.high(i);
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
        const __m256 scale = _mm256_cvtph_ps(
            _mm_loadu_si128(reinterpret_cast<const __m128i *>(args.scales + h * kHalf)));
        for (int r = 0; r < kRows; ++r) {
            __m256 s = sum[0][r][h];
#pragma GCC unroll 4
            for (int c = 1; c < kChains; ++c)
                s = _mm256_add_ps(s, sum[c][r][h]);
            float *out = args.totals + r * kTotalsStride + h * kHalf;
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

template <class Unit>
void multiply_rows(int rows, const StepArgs &args) {
    switch (rows) {
        case 1:
            return multiply_step<Unit, 1>(args);
        case 2:
            return multiply_step<Unit, 2>(args);
        case 3:
            return multiply_step<Unit, 3>(args);
        case 4:
            return multiply_step<Unit, 4>(args);
        case 5:
            return multiply_step<Unit, 5>(args);
        default:
            return multiply_step<Unit, kBlockRows>(args);
    }
}

// The rows of a tile cut into blocks as even as possible; packed block after block.
struct Blocks {
    int count, base, extra;

    explicit Blocks(int tile_rows) {
        count = tile_rows <= kDirectRows ? 1 : (tile_rows + kBlockRows - 1) / kBlockRows;
        base = tile_rows / count;
        extra = tile_rows % count;
    }
    int first_row(int block) const { return block * base + (block < extra ? block : extra); }
    int rows(int block) const { return base + (block < extra); }
};

void unpack(const StepArgs &args, float *values) {
    const uint8_t *codes = args.unit;
    for (int64_t u = 0; u < args.units; ++u, codes += args.unit_stride) {
        const PackedUnit unit(codes);
        for (int i = 0; i < kUnitRows; ++i, values += kLanes) {
            _mm256_store_ps(values, unit.low(i));
            _mm256_store_ps(values + kHalf, unit.high(i));
        }
    }
}

// All blocks of a tile, with the step's weights unpacked once.
void multiply_blocks(const TileArgs &t, const Blocks &blocks, int64_t first_unit, StepArgs args) {
    alignas(64) float values[kStepRows * kLanes];
    unpack(args, values);
    args.unit = reinterpret_cast<const uint8_t *>(values);
    args.unit_stride = UnpackedUnit::kBytes;
    float *totals = args.totals;
    const auto *packed = reinterpret_cast<const float *>(t.activations);
    for (int b = 0; b < blocks.count; ++b) {
        const int64_t row = blocks.first_row(b);
        args.activations = packed + (row * t.units + first_unit * blocks.rows(b)) * kUnitRows;
        args.totals = totals + row * kTotalsStride;
        multiply_rows<UnpackedUnit>(blocks.rows(b), args);
    }
}

template <class T>
void run_tile(const TileArgs &t) {
    alignas(32) float totals[kTileRows * kTotalsStride];
    for (int i = 0; i < t.rows * kTotalsStride; ++i)
        totals[i] = 0.0f;
    const Blocks blocks(t.rows);
    StepArgs args{};
    args.unit_stride = t.vectors * kUnitBytes;
    int64_t step = 0;
    for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
        args.units = t.units - first < t.step_units ? t.units - first : t.step_units;
        args.activations =
            reinterpret_cast<const float *>(t.activations) + first * kUnitRows * t.rows;
        const uint16_t *scales = t.scales + step / t.steps_per_group * t.vectors * kLanes;
        for (int v = 0; v < t.vectors; ++v) {
            args.unit = t.codes + first * args.unit_stride + v * kUnitBytes;
            args.scales = scales + v * kLanes;
            args.totals = totals + v * kLanes;
            if (t.rows <= kDirectRows) {
                multiply_rows<PackedUnit>(t.rows, args);
            } else {
                multiply_blocks(t, blocks, first, args);
            }
        }
    }
    for (int r = 0; r < t.rows; ++r) {
        for (int c = 0; c < t.columns; c += kHalf) {
            store_columns<T>(t.y, r * t.y_stride_elems + c, totals + r * kTotalsStride + c,
                             t.columns - c);
        }
    }
}

template <class T>
void pack_tile(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed) {
    auto *out = reinterpret_cast<float *>(packed);
    const Blocks blocks(rows);
    for (int b = 0; b < blocks.count; ++b) {
        const int64_t first_row = blocks.first_row(b);
        const int block_rows = blocks.rows(b);
        for (int r = 0; r < block_rows; ++r) {
            const int64_t start = (first_row + r) * k;
            for (int64_t i = 0; i < units * kUnitRows; ++i) {
                const float value = i < k ? T::load(x, start + i) : 0.0f;
                out[(i / 2 * block_rows + r) * 2 + i % 2] = value;
            }
        }
        out += units * kUnitRows * block_rows;
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
