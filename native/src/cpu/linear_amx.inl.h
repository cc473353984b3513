// The AMX kernels, over a few operations on tiles: linear_amx.cc has those of the processor, the
// test has others that compute the same in plain C++, so that the kernels run on any AVX-512
// processor. In anonymous namespaces, see linear_kernel.h.
//
// A step's weights are unpacked once for up to kMaxRows rows, into 16 KiB of L1 or L2: as integers
// code - bias (or e4m3 numbers) in bfloat16, which is exact, or as the unsigned codes for int8
// activations. Rows are cut into blocks of up to 16, as even as possible. A block times a step is
// one row of tiles: its activations (tile A) times up to four vectors of 16 columns (tiles B) into as
// many sums (tiles C), which are then scaled and added to the totals in binary32.
//
// Packed activations of a tile: block after block, [chunk][part][row][chunk bytes]. A chunk is what
// one tile product takes: 32 inputs in bfloat16, or 64 in int8 (32 where steps are that short). A
// binary16 input is split into two bfloat16, which hold its 11 bits exactly: parts 0 and 1.
//
// Order of sums (Intel SDM volume 2, TDPBF16PS): of a chunk, even inputs one by one by FMA, and odd
// inputs likewise; their two sums added; the result added to C. Chunks in order, part 0 before part
// 1. Subnormal inputs and results count as 0. So rows do not depend on one another.
#pragma once

#include "cpu/avx512_elems.inl.h"
#include "cpu/linear_avx512_codes.inl.h"
#include "cpu/linear_gather.inl.h"
#include "cpu/linear_int8_avx512.inl.h"
#include "cpu/linear_kernel.h"
#include "cpu/tile_dispatch.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kAmxRows = 16;  // of a tile; also pairs or fours of inputs of B
constexpr int kAmxRowBytes = 64;
constexpr int kAmxTileBytes = kAmxRows * kAmxRowBytes;
// 64 rows of 11008 inputs in bfloat16 stay in 2 MiB of L2 while the panels pass by.
constexpr int kAmxMaxRows = 64;

// Tile registers: C 0..3, A 4, B 5..7.
constexpr int kTileA = 4, kTileB = 5, kTileBs = 3, kTiles = 8;

// What LDTILECFG reads.
struct alignas(64) TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// For blocks of `rows` rows and chunks of `chunk_bytes`.
inline TileConfig make_tile_config(int rows, int chunk_bytes) {
    TileConfig config{};
    config.palette = 1;
    for (int i = 0; i < kTiles; ++i) {
        const bool is_b = i >= kTileB;
        config.rows[i] = static_cast<uint8_t>(is_b ? chunk_bytes / 4 : rows);
        config.row_bytes[i] = static_cast<uint16_t>(i == kTileA ? chunk_bytes : kAmxRowBytes);
    }
    return config;
}

// `rows` rows cut into the fewest blocks of at most 16, as even as possible.
struct AmxBlocks {
    int count, base, extra;

    explicit AmxBlocks(int tile_rows)
        : count((tile_rows + kAmxRows - 1) / kAmxRows),
          base(tile_rows / count),
          extra(tile_rows % count) {}
    int first_row(int block) const { return block * base + (block < extra ? block : extra); }
    int rows(int block) const { return base + (block < extra); }
};

// ---- Arithmetics ------------------------------------------------------------------------------
// kChunkUnits: of a full chunk; kParts; kBias of codes; unpack(unit, rows): one unit of a vector to
// kUnitTileRows rows of B; multiply<Tiles, C, B>(); scaled(C, row): the sums of 16 columns without
// the scales of the weights; x_sum(row).

template <class Codes, int kPartCount>
struct Bf16Tiles {
    static constexpr int kChunkUnits = 4;
    static constexpr int kParts = kPartCount;
    static constexpr int kUnitBytes = Codes::kUnitBytes;
    static constexpr int kUnitTileRows = 4;
    static constexpr int kBias = Codes::kBias;
    static constexpr int kWordsPerUnit = 4 * kParts;
    static constexpr int kHeaderWords = 1;

    static void unpack(const uint8_t *unit, uint8_t *tile_rows) {
        const Codes codes;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
            _mm512_store_si512(tile_rows + j * kAmxRowBytes, codes.pairs(unit, j));
    }
    template <class Tiles, int kC, int kB>
    static void multiply() {
        Tiles::template dot_bf16<kC, kTileA, kB>();
    }
    static __m512 scaled(const uint8_t *c, const uint32_t *, int, int) {
        return _mm512_load_ps(c);
    }
    static float x_sum(const uint32_t *header, int, int row) {
        return header ? __builtin_bit_cast(float, header[row]) : 0.0f;
    }
};

template <class Codes>
struct Int8Tiles {
    static constexpr int kChunkUnits = 8;
    static constexpr int kParts = 1;
    static constexpr int kUnitBytes = Codes::kUnitBytes;
    static constexpr int kUnitTileRows = 2;
    static constexpr int kBias = Codes::kBias;
    static constexpr int kWordsPerUnit = 2;
    static constexpr int kHeaderWords = kInt8HeaderWords;

    static void unpack(const uint8_t *unit, uint8_t *tile_rows) {
        _mm512_store_si512(tile_rows, Codes::four(unit, 0));
        _mm512_store_si512(tile_rows + kAmxRowBytes, Codes::four(unit, 1));
    }
    template <class Tiles, int kC, int kB>
    static void multiply() {
        Tiles::template dot_int8<kC, kTileA, kB>();
    }
    static __m512 scaled(const uint8_t *c, const uint32_t *header, int rows, int row) {
        const auto sum = static_cast<int32_t>(header[rows + row]);
        const __m512i unbiased =
            _mm512_sub_epi32(_mm512_load_si512(c), _mm512_set1_epi32(kBias * sum));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(unbiased),
                             _mm512_set1_ps(__builtin_bit_cast(float, header[row])));
    }
    static float x_sum(const uint32_t *header, int rows, int row) {
        return static_cast<float>(static_cast<int32_t>(header[rows + row])) *
               __builtin_bit_cast(float, header[row]);
    }
};

// ---- The tile ---------------------------------------------------------------------------------

template <class Tiles, class Arithmetic>
class AmxKernel {
  public:
    template <int kVectors>
    static void multiply(const TileArgs &t, float *totals) {
        const int chunk_units =
            t.step_units < Arithmetic::kChunkUnits ? t.step_units : Arithmetic::kChunkUnits;
        const int chunk_bytes = chunk_units * Arithmetic::kUnitTileRows * 4;
        const AmxBlocks blocks(t.rows);
        alignas(64) uint8_t b[kStepUnits * Arithmetic::kUnitTileRows * kAmxRowBytes * kVectors];
        alignas(64) uint8_t c[kVectors * kAmxTileBytes];
        int configured_rows = 0;
        int64_t step = 0;
        for (int64_t first = 0; first < t.units; first += t.step_units, ++step) {
            const int64_t left = t.units - first;
            const int units = left < t.step_units ? static_cast<int>(left) : t.step_units;
            unpack_step<kVectors>(t, first, units, chunk_units, b);
            const int64_t group = step / t.steps_per_group;
            const uint32_t *header =
                t.headers ? t.headers + step * Arithmetic::kHeaderWords * t.rows : nullptr;
            for (int block = 0; block < blocks.count; ++block) {
                const int row = blocks.first_row(block), rows = blocks.rows(block);
                if (rows != configured_rows) Tiles::configure(make_tile_config(rows, chunk_bytes));
                configured_rows = rows;
                const uint32_t *a =
                    t.activations + (row * t.units + first * rows) * Arithmetic::kWordsPerUnit;
                multiply_block<kVectors>(a, b, units / chunk_units, chunk_bytes, rows * chunk_bytes,
                                         c);
                add_block<kVectors>(t, c, group, header, row, rows, totals);
            }
        }
        Tiles::release();
    }

  private:
    // To b: [chunk][vector][row of B][64 bytes].
    template <int kVectors>
    static void unpack_step(const TileArgs &t, int64_t first, int units, int chunk_units,
                            uint8_t *b) {
        const uint8_t *codes = t.codes + first * kVectors * Arithmetic::kUnitBytes;
        const int chunk_rows = chunk_units * Arithmetic::kUnitTileRows;
        for (int u = 0; u < units; ++u) {
            uint8_t *chunk = b + u / chunk_units * kVectors * chunk_rows * kAmxRowBytes;
            const int row = u % chunk_units * Arithmetic::kUnitTileRows;
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                Arithmetic::unpack(codes, chunk + (v * chunk_rows + row) * kAmxRowBytes);
                codes += Arithmetic::kUnitBytes;
            }
        }
    }

    // c: [vector][row][16], the sums of one block over one step.
    template <int kVectors>
    static void multiply_block(const uint32_t *activations, const uint8_t *b, int chunks,
                               int chunk_bytes, int a_bytes, uint8_t *c) {
        const auto *a = reinterpret_cast<const uint8_t *>(activations);
        const int b_bytes = chunk_bytes / 4 * kAmxRowBytes;
        each_vector<kVectors, ZeroC>(c, kAmxTileBytes);
        for (int chunk = 0; chunk < chunks; ++chunk) {
            for (int part = 0; part < Arithmetic::kParts; ++part, a += a_bytes) {
                Tiles::template load<kTileA>(a, chunk_bytes);
                each_vector<kVectors, MultiplyB>(b, b_bytes);
            }
            b += kVectors * b_bytes;
        }
        each_vector<kVectors, StoreC>(c, kAmxTileBytes);
    }

    struct ZeroC {
        template <int kV>
        static void apply(const uint8_t *) {
            Tiles::template zero<kV>();
        }
    };
    struct MultiplyB {
        template <int kV>
        static void apply(const uint8_t *b) {
            constexpr int kB = kTileB + kV % kTileBs;
            Tiles::template load<kB>(b, kAmxRowBytes);
            Arithmetic::template multiply<Tiles, kV, kB>();
        }
    };
    struct StoreC {
        template <int kV>
        static void apply(uint8_t *c) {
            Tiles::template store<kV>(c, kAmxRowBytes);
        }
    };

    // Tile registers are part of the instructions: Operation::apply<v>(data + v * stride).
    template <int kVectors, class Operation, class Data>
    static void each_vector(Data data, int stride) {
        Operation::template apply<0>(data);
        if constexpr (kVectors > 1) Operation::template apply<1>(data + stride);
        if constexpr (kVectors > 2) {
            Operation::template apply<2>(data + 2 * stride);
            Operation::template apply<3>(data + 3 * stride);
        }
    }

    template <int kVectors>
    static void add_block(const TileArgs &t, const uint8_t *c, int64_t group,
                          const uint32_t *header, int first_row, int rows, float *totals) {
        for (int v = 0; v < kVectors; ++v) {
            const VectorScales<Arithmetic::kBias> scales(t.scales, group, kVectors * kLanes,
                                                         v * kLanes);
            for (int r = 0; r < rows; ++r) {
                const int row = first_row + r;
                const uint8_t *sums = c + v * kAmxTileBytes + r * kAmxRowBytes;
                add_step(totals + (row * kVectors + v) * kLanes,
                         Arithmetic::scaled(sums, header, t.rows, row), scales,
                         scales.has_offset ? Arithmetic::x_sum(header, t.rows, row) : 0.0f);
            }
        }
    }
};

template <class Kernel, class T>
void run_amx_tile(const TileArgs &t) {
    alignas(64) float totals[kAmxMaxRows * kMaxPanelVectors * kLanes];
    for (int i = 0; i < t.rows * t.vectors; ++i)
        _mm512_store_ps(totals + i * kLanes, _mm512_setzero_ps());
    switch (t.vectors) {
        case 1:
            Kernel::template multiply<1>(t, totals);
            break;
        case 2:
            Kernel::template multiply<2>(t, totals);
            break;
        default:
            Kernel::template multiply<kMaxPanelVectors>(t, totals);
    }
    store_tile<T>(t, totals);
}

// ---- Packing ----------------------------------------------------------------------------------

// 32 bfloat16 are a chunk of one row.
struct Bf16Chunk {
    using Elem = Bf16;
    static constexpr int kParts = 1;
    static void pack(const void *x, int64_t count, uint32_t *const parts[1]) {
        const __mmask32 mask = lane_mask(count) | uint32_t{lane_mask(count - 16)} << 16;
        _mm512_storeu_si512(parts[0], _mm512_maskz_loadu_epi16(mask, x));
    }
};

// Upper and lower bfloat16 of 32 binary16: the nearest to x, and to what it leaves, exact together.
// In integers, and not by vcvtneps2bf16, whose flushing of subnormals differs from what tiles do.
struct SplitF16Chunk {
    using Elem = F16;
    static constexpr int kParts = 2;
    static void pack(const void *x, int64_t count, uint32_t *const parts[2]) {
        for (int half = 0; half < 2; ++half) {
            const __m512 value = F16::load(x, 16 * half, lane_mask(count - 16 * half));
            alignas(32) uint16_t upper[16];
            Bf16::store(upper, 0, 0xffff, value);
            const __m512 rest = _mm512_sub_ps(value, Bf16::load(upper, 0, 0xffff));
            // inf - inf is NaN; an infinity is all in its upper part.
            const __mmask16 finite = _mm512_cmp_ps_mask(rest, rest, _CMP_ORD_Q);
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(parts[0] + 8 * half),
                                _mm256_load_si256(reinterpret_cast<const __m256i *>(upper)));
            Bf16::store(parts[1] + 8 * half, 0, 0xffff, _mm512_maskz_mov_ps(finite, rest));
        }
    }
};

template <class Chunk>
void pack_amx_tile(const PackArgs &args) {
    using Elem = typename Chunk::Elem;
    constexpr int kChunkInputs = 32, kChunkWords = 16;
    const int64_t chunks = args.units * kUnitRows / kChunkInputs;
    const int step_chunks = args.step_units * kUnitRows / kChunkInputs;
    const AmxBlocks blocks(args.rows);
    for (int block = 0; block < blocks.count; ++block) {
        const int rows = blocks.rows(block);
        const int first_row = blocks.first_row(block);
        uint32_t *out = args.packed + first_row * chunks * kChunkWords * Chunk::kParts;
        for (int r = 0; r < rows; ++r) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t c = 0; c < chunks; ++c) {
                alignas(64) typename Elem::Bits gathered[kChunkInputs];
                const int64_t first = c * kChunkInputs, count = args.k - first;
                const auto *x = inputs_in_order(args, first_row + r, first, kChunkInputs, gathered);
                uint32_t *parts[Chunk::kParts];
                for (int p = 0; p < Chunk::kParts; ++p)
                    parts[p] = out + ((c * Chunk::kParts + p) * rows + r) * kChunkWords;
                Chunk::pack(x, count, parts);
                if (!args.headers) continue;
                sum = _mm512_add_ps(sum, Elem::load(x, 0, lane_mask(count)));
                sum = _mm512_add_ps(sum, Elem::load(x, 16, lane_mask(count - 16)));
                if ((c + 1) % step_chunks == 0 || c + 1 == chunks) {
                    const float total = _mm512_reduce_add_ps(sum);
                    args.headers[c / step_chunks * args.rows + first_row + r] =
                        __builtin_bit_cast(uint32_t, total);
                    sum = _mm512_setzero_ps();
                }
            }
        }
    }
}

template <class T>
void pack_amx_tile_int8(const PackArgs &args) {
    constexpr int kFullChunkUnits = 8;
    const int chunk_units = args.step_units < kFullChunkUnits ? args.step_units : kFullChunkUnits;
    const int chunk_words = 2 * chunk_units;
    const int step_inputs = args.step_units * kUnitRows;
    const AmxBlocks blocks(args.rows);
    for (int block = 0; block < blocks.count; ++block) {
        const int rows = blocks.rows(block);
        const int first_row = blocks.first_row(block);
        uint32_t *out = args.packed + first_row * args.units * 2;
        for (int r = 0; r < rows; ++r) {
            int64_t step = 0;
            for (int64_t u = 0; u < args.units; u += args.step_units, ++step) {
                alignas(64) typename T::Bits gathered[kStepRows];
                const auto *x =
                    inputs_in_order(args, first_row + r, u * kUnitRows, step_inputs, gathered);
                const int64_t inputs = args.k - u * kUnitRows, left = args.units - u;
                QuantizedStep quantized;
                quantize_step<T>(x, inputs < step_inputs ? inputs : step_inputs, &quantized);
                const int64_t words = 2 * (left < args.step_units ? left : args.step_units);
                for (int64_t w = 0; w < words; ++w) {
                    const int64_t chunk = u / chunk_units + w / chunk_words;
                    out[(chunk * rows + r) * chunk_words + w % chunk_words] = quantized.words[w];
                }
                uint32_t *header = args.headers + step * kInt8HeaderWords * args.rows;
                header[first_row + r] = __builtin_bit_cast(uint32_t, quantized.scale);
                header[args.rows + first_row + r] = static_cast<uint32_t>(quantized.sum);
            }
        }
    }
}

// ---- Kernels ----------------------------------------------------------------------------------

template <class Tiles, class Arithmetic, class T>
constexpr RunTile kRunAmx = run_amx_tile<AmxKernel<Tiles, Arithmetic>, T>;

template <class Tiles, class Chunk, class Codes>
constexpr LinearKernel kAmxExact = {
    pack_amx_tile<Chunk>, kRunAmx<Tiles, Bf16Tiles<Codes, Chunk::kParts>, typename Chunk::Elem>,
    4 * Chunk::kParts,    1,
    kAmxMaxRows,          4};

template <class Tiles, class T, class Codes>
constexpr LinearKernel kAmxInt8 = {pack_amx_tile_int8<T>,
                                   kRunAmx<Tiles, Int8Tiles<Codes>, T>,
                                   2,
                                   kInt8HeaderWords,
                                   kAmxMaxRows,
                                   8};

template <class Tiles, class Chunk>
const LinearKernel *amx_exact_kernel(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kAmxExact<Tiles, Chunk, Int4Codes>;
        case TARPON_WEIGHT_INT8:
            return &kAmxExact<Tiles, Chunk, Int8Codes>;
        case TARPON_WEIGHT_FP8_E4M3:
            return &kAmxExact<Tiles, Chunk, E4m3Codes>;
    }
    return nullptr;
}

template <class Tiles>
const LinearKernel *amx_exact_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    if (dtype == TARPON_F16) return amx_exact_kernel<Tiles, SplitF16Chunk>(type);
    return dtype == TARPON_BF16 ? amx_exact_kernel<Tiles, Bf16Chunk>(type) : nullptr;
}

template <class Tiles, class T>
const LinearKernel *amx_int8_kernel(tarpon_weight_type type) {
    switch (type) {
        case TARPON_WEIGHT_INT4:
            return &kAmxInt8<Tiles, T, UnsignedInt4>;
        case TARPON_WEIGHT_INT8:
            return &kAmxInt8<Tiles, T, UnsignedInt8>;
    }
    return nullptr;
}

template <class Tiles>
const LinearKernel *amx_int8_kernel(tarpon_weight_type type, tarpon_dtype dtype) {
    switch (dtype) {
        case TARPON_F32:
            return amx_int8_kernel<Tiles, F32>(type);
        case TARPON_F16:
            return amx_int8_kernel<Tiles, F16>(type);
        case TARPON_BF16:
            return amx_int8_kernel<Tiles, Bf16>(type);
    }
    return nullptr;
}

}  // namespace
}  // namespace tarpon::cpu
