// The linear kernels of AVX2 with FMA and F16C: every dtype through binary32 FMAs.
//
// A tile works step by step and on one vector of 16 columns at a time, or on more where fewer rows
// leave registers for their sums. Up to 5 rows multiply the codes as they are unpacked. More are cut
// into blocks of up to 6, whose 6 x 2 sums of 8 columns fill 16 registers beside two weights and an
// activation: there the step's weights are unpacked once, into 8 KiB of L1, and every block reads
// them.
#include "cpu/linear_avx2.inl.h"
#include "cpu/linear_gather.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kBlockRows = 6;
constexpr int kDirectRows = 5;
constexpr int kTileRows = 12 * kBlockRows;

// ---- Weights ----------------------------------------------------------------------------------

// values(unit, half, row): one row of 8 columns, the first or the second 8 of a vector, as kFactor
// times what they are multiplied as.

// 2^23 + code is exact in binary32 and has the code in its lowest bits.
struct Int4Codes {
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;
    static constexpr float kFactor = 1.0f;
    static __m256 values(const uint8_t *unit, int half, int row) {
        const auto *lanes = reinterpret_cast<const __m256i *>(unit + 32 * half);
        const int shift = 16 * (row % 2) + 4 * (row / 2);
        const __m256i shifted = _mm256_srli_epi32(_mm256_load_si256(lanes), shift);
        const __m256i code = _mm256_and_si256(shifted, _mm256_set1_epi32(15));
        const __m256i magic = _mm256_or_si256(code, _mm256_set1_epi32(0x4b000000));
        return _mm256_sub_ps(_mm256_castsi256_ps(magic), _mm256_set1_ps(8388608.0f + kBias));
    }
};

struct Int8Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    static constexpr float kFactor = 1.0f;
    static __m256 values(const uint8_t *unit, int half, int row) {
        const auto *bytes = reinterpret_cast<const __m128i *>(unit + row * kLanes + half * kHalf);
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes)));
    }
};

// Shifted into place an e4m3 number is a binary16 number of its 2^-8: 7 is the one's bias, 15 the
// other's. Subnormals are right too, and vcvtph2ps heeds no flush-to-zero mode.
struct E4m3Codes {
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 0;
    static constexpr float kFactor = 256.0f;
    static __m256 values(const uint8_t *unit, int half, int row) {
        const auto *pairs =
            reinterpret_cast<const __m128i *>(unit + row / 2 * 2 * kLanes + half * 2 * kHalf);
        // Sign extension puts the sign where binary16 has it, and once too often.
        const __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_load_si128(pairs)), 7);
        const __m256i own = row % 2 ? _mm256_srli_epi32(wide, 16) : wide;
        const __m256i halves = _mm256_and_si256(own, _mm256_set1_epi32(0xbf80));
        return _mm256_cvtph_ps(
            _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
    }
};

// Weights of 8 rows, unpacked as they are read: half h of the columns from `unit` on, row i.
template <class CodesType>
struct PackedUnit {
    using Codes = CodesType;
    const uint8_t *unit;
    __m256 get(int h, int i) const {
        return Codes::values(unit + h / 2 * Codes::kUnitBytes, h % 2, i);
    }
};

// The same of 16 columns, unpacked before: [8 rows][16 columns].
template <class CodesType>
struct UnpackedUnit {
    using Codes = CodesType;
    static constexpr int kBytes = kUnitRows * kLanes * 4;
    const uint8_t *unit;
    __m256 get(int h, int i) const {
        return _mm256_load_ps(reinterpret_cast<const float *>(unit) + i * kLanes + h * kHalf);
    }
};

// ---- One step ---------------------------------------------------------------------------------

// Some vectors over one step, for one block of rows.
struct StepArgs {
    const uint8_t *unit;  // the first, and from one to the next
    int64_t unit_stride;
    int64_t units;
    const float *activations;  // [units][4 pairs][rows][2]
    const float *x_sums;       // [rows], if there are offsets
    const PanelScales *scales;
    int64_t group, width, column;  // of the scales: the panel's width, and the first column
    float *totals;                 // of the first row and column; rows are kTotalsStride apart
};

template <class Unit, int kRows, int kHalves>
void multiply_step(const StepArgs &args) {
    const uint8_t *codes = args.unit;
    const float *a = args.activations;
    __m256 sum[kRows][kHalves];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int h = 0; h < kHalves; ++h)
            sum[r][h] = _mm256_setzero_ps();
    }
    for (int64_t u = 0; u < args.units; ++u, codes += args.unit_stride) {
        const Unit unit{codes};
#pragma GCC unroll 8
        for (int i = 0; i < kUnitRows; ++i) {
            const float *pair = a + i / 2 * kRows * 2 + i % 2;
#pragma GCC unroll 8
            for (int h = 0; h < kHalves; h += 2) {
                const __m256 low = unit.get(h, i), high = unit.get(h + 1, i);
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
                    const __m256 value = _mm256_broadcast_ss(pair + 2 * r);
                    sum[r][h] = _mm256_fmadd_ps(low, value, sum[r][h]);
                    sum[r][h + 1] = _mm256_fmadd_ps(high, value, sum[r][h + 1]);
                }
            }
        }
        a += 4 * kRows * 2;
    }
    using Codes = typename Unit::Codes;
    for (int h = 0; h < kHalves; ++h) {
        const HalfScales<Codes::kBias> scales(*args.scales, args.group, args.width,
                                              args.column + h * kHalf);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            __m256 s = sum[r][h];
            if constexpr (Codes::kFactor != 1.0f)
                s = _mm256_mul_ps(s, _mm256_set1_ps(Codes::kFactor));
            add_step(args.totals + r * kTotalsStride + h * kHalf, s, scales,
                     scales.has_offset ? args.x_sums[r] : 0.0f);
        }
    }
}

// One vector.
template <class Unit>
void multiply_rows(int rows, const StepArgs &args) {
    switch (rows) {
        case 1:
            return multiply_step<Unit, 1, 2>(args);
        case 2:
            return multiply_step<Unit, 2, 2>(args);
        case 3:
            return multiply_step<Unit, 3, 2>(args);
        case 4:
            return multiply_step<Unit, 4, 2>(args);
        case 5:
            return multiply_step<Unit, 5, 2>(args);
        default:
            return multiply_step<Unit, kBlockRows, 2>(args);
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

// ---- The tile ---------------------------------------------------------------------------------

template <class Codes>
class TileKernel {
  public:
    static void multiply(const TileArgs &t, float *totals) {
        const Blocks blocks(t.rows);
        StepArgs args{};
        args.unit_stride = t.vectors * Codes::kUnitBytes;
        args.scales = &t.scales;
        args.width = t.vectors * kLanes;
        int64_t step = 0;
        for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
            args.units = t.units - first < t.step_units ? t.units - first : t.step_units;
            args.activations =
                reinterpret_cast<const float *>(t.activations) + first * kUnitRows * t.rows;
            args.x_sums = reinterpret_cast<const float *>(t.headers) + step * t.rows;
            args.group = step / t.steps_per_group;
            // More sums than a vector's, where they are few: an FMA takes as long as 8 start.
            const int vectors = t.rows == 1 ? t.vectors : t.rows == 2 && t.vectors > 1 ? 2 : 1;
            for (int v = 0; v < t.vectors; v += vectors) {
                args.unit = t.codes + first * args.unit_stride + v * Codes::kUnitBytes;
                args.column = v * kLanes;
                args.totals = totals + v * kLanes;
                if (t.rows > kDirectRows) {
                    multiply_blocks(t, blocks, first, args);
                } else if (vectors == 4) {
                    multiply_step<PackedUnit<Codes>, 1, 8>(args);
                } else if (vectors == 2 && t.rows == 1) {
                    multiply_step<PackedUnit<Codes>, 1, 4>(args);
                } else if (vectors == 2) {
                    multiply_step<PackedUnit<Codes>, 2, 4>(args);
                } else {
                    multiply_rows<PackedUnit<Codes>>(t.rows, args);
                }
            }
        }
    }

  private:
    static void unpack(const StepArgs &args, float *values) {
        const uint8_t *codes = args.unit;
        for (int64_t u = 0; u < args.units; ++u, codes += args.unit_stride) {
            const PackedUnit<Codes> unit{codes};
#pragma GCC unroll 8
            for (int i = 0; i < kUnitRows; ++i, values += kLanes) {
                _mm256_store_ps(values, unit.get(0, i));
                _mm256_store_ps(values + kHalf, unit.get(1, i));
            }
        }
    }

    // All blocks of a tile, with the step's weights unpacked once.
    static void multiply_blocks(const TileArgs &t, const Blocks &blocks, int64_t first_unit,
                                StepArgs args) {
        alignas(64) float values[kStepRows * kLanes];
        unpack(args, values);
        args.unit = reinterpret_cast<const uint8_t *>(values);
        args.unit_stride = UnpackedUnit<Codes>::kBytes;
        float *totals = args.totals;
        const float *x_sums = args.x_sums;
        const auto *packed = reinterpret_cast<const float *>(t.activations);
        for (int b = 0; b < blocks.count; ++b) {
            const int64_t row = blocks.first_row(b);
            args.activations = packed + (row * t.units + first_unit * blocks.rows(b)) * kUnitRows;
            args.x_sums = x_sums + row;
            args.totals = totals + row * kTotalsStride;
            multiply_rows<UnpackedUnit<Codes>>(blocks.rows(b), args);
        }
    }
};

template <class T, class Codes>
void run_tile(const TileArgs &t) {
    alignas(32) float totals[kTileRows * kTotalsStride];
    for (int i = 0; i < t.rows * kTotalsStride; ++i)
        totals[i] = 0.0f;
    TileKernel<Codes>::multiply(t, totals);
    store_tile<T>(t, totals);
}

// Block after block of rows, as multiply_blocks reads them; the headers of the whole tile.
template <class T>
void pack_tile(const PackArgs &args) {
    auto *out = reinterpret_cast<float *>(args.packed);
    const Blocks blocks(args.rows);
    for (int b = 0; b < blocks.count; ++b) {
        const int block_rows = blocks.rows(b);
        for (int r = 0; r < block_rows; ++r) {
            const int row = blocks.first_row(b) + r;
            for (int64_t u = 0; u < args.units; u += args.step_units) {
                typename T::Bits gathered[kStepRows];
                const auto *x = inputs_in_order(args, row, u * kUnitRows, kStepRows, gathered);
                const int64_t units =
                    args.units - u < args.step_units ? args.units - u : args.step_units;
                float sum = 0.0f;
                for (int64_t i = 0; i < units * kUnitRows; ++i) {
                    const int64_t input = u * kUnitRows + i;
                    const float value = input < args.k ? T::value(x[i]) : 0.0f;
                    out[(input / 2 * block_rows + r) * 2 + i % 2] = value;
                    sum += value;
                }
                if (!args.headers) continue;
                args.headers[u / args.step_units * args.rows + row] =
                    __builtin_bit_cast(uint32_t, sum);
            }
        }
        out += args.units * kUnitRows * block_rows;
    }
}

template <class T, class Codes>
constexpr LinearKernel kKernel = {pack_tile<T>, run_tile<T, Codes>, kUnitRows, 1, kTileRows, 1};

template <class T>
const LinearKernel *kernel_for(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kKernel<T, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kKernel<T, Int8Codes>;
        case TARPON_WEIGHT_FP8_E4M3:
            return &kKernel<T, E4m3Codes>;
    }
    return nullptr;
}

}  // namespace

const LinearKernel *avx2_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
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
