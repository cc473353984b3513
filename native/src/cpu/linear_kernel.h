// The contract between the CPU's linear plan (linear_plan.cc) and its kernels, one file an
// instruction set. This header is included by files compiled with wide instruction sets enabled:
// it must hold nothing that compiles to code (no inline functions, no std:: templates), or the
// linker might keep their wide copy for everybody.
//
// Weights. Every format is weight = (value - bias) * scale + offset, in binary32: value is the
// code, or what an e4m3 code stands for; bias is 8 for 4-bit codes, 128 for 8-bit ones, 0 for
// e4m3. Kernels sum (value - bias) * x, which are exact products, over a step of one group; then
//     total += sum * scale;  total += offset * (the step's sum of x)
// where offset is (bias - zero) * scale for integer zero points, exact in binary32 with scales of
// 16 bits, and minimum + bias * scale for minimums. Symmetric weights have no offsets, and no sum
// of x is formed. Scales and minimums of two levels (linear_factors.h) are multiplied out as they
// are read, to the same bits. All of a row's sums are made in one order, whatever the height of its tile and
// the width of its panel: rows do not depend on their neighbours, nor on the number of threads.
//
// Packed codes. Columns are cut into panels of up to 4 vectors of 16 columns, input rows into
// units of 8. A unit of a vector is 64 bytes of 4-bit codes or 128 of 8-bit codes.
//   4-bit codes: lane c (32 bits) of the 64 bytes holds the 8 codes of column c, the code of row
//     2*j + h in bits 4*j..4*j+3 of its 16-bit half h. So
//     - shifting the halves right by 4*j brings rows 2*j and 2*j+1 to the bottom of both halves, as
//       the row pairs that vdpbf16ps and AMX tiles want, and
//     - the low and the high nibbles of the four bytes are rows 0,4,1,5 and 2,6,3,7, four rows of a
//       column as VNNI wants them.
//   int8 codes, exact kernels: [row][16 columns], each the two's complement of code - 128, so that
//     they widen to their values.
//   e4m3 codes: [row / 2][16 columns][row % 2].
//   int8 codes, int8 kernels: two times 64 bytes; in each byte of the first what that byte's low
//     nibble would hold of 4-bit codes, in the second the high nibble's. So lane c is the codes of
//     rows 0,4,1,5, then of 2,6,3,7.
// A panel is its units in order, each with its vectors in order: one sequential stream. Beside it
// are its scales, 16 * vectors for each group, and zeros or offsets likewise. Padding has scale 0,
// offset 0 and the code of weight 0.
//
// Packed activations, for tiles of up to max_rows rows; zero beyond K.
//   Exact kernels: [pair][row][words] of 32-bit words, pair p being the inputs 2*p and 2*p+1. A
//     kernel broadcasts the words in this order, whatever they are: two bfloat16; or two words,
//     two binary32; or two words, the upper and the lower bfloat16 parts of both inputs.
//   Int8 kernels: [unit][half][row] of 32-bit words with four int8, rows 0,4,1,5 or 2,6,3,7 of a
//     unit. An input is int8 * scale, scale = max|x| / 127 over the row's step.
//   AMX kernels: as tiles, see linear_amx.inl.h.
// Beside them are headers of steps, [step][word][row]. Exact kernels: float sum of the step's x,
// if there are offsets. Int8 kernels: float scale, NaN if an input of the step is not finite, and
// int32 sum of the step's int8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tarpon.h"

namespace tarpon::cpu {

inline constexpr int kLanes = 16;           // columns of a vector
inline constexpr int kUnitRows = 8;         // input rows of a unit
inline constexpr int kVectorBytes = 64;     // of 16 columns' lanes
inline constexpr int kMaxPanelVectors = 4;  // widths of panels are 4, 2 and 1
inline constexpr int kStepUnits = 16;       // most units of a step, 128 rows
inline constexpr int kStepRows = kStepUnits * kUnitRows;

inline constexpr int kSuperGroups = 8;  // groups that share the upper of two levels of scales

// Scales and minimums of two levels: a group's is its code times its super group's binary16 number.
struct PanelFactors {
    const uint8_t *scale_codes, *minimum_codes;  // as scales below; both null if there are none
    const uint16_t *super_scales,
        *super_minimums;  // at group / kSuperGroups * vectors * 16 + column
};

// A group's scales and offsets, of the panel's columns, at index group * vectors * 16 + column.
struct PanelScales {
    const void *scales;  // null if there are factors
    tarpon_scale_type scale_type;
    const uint8_t *zeros;  // integer zero points, or null
    const float *offsets;  // or null
    PanelFactors factors;
};

// `rows` consecutive rows of x to be packed for one tile.
struct PackArgs {
    const void *x;  // [rows, k], element-aligned
    int64_t k;
    const int32_t *permutation;  // [k]: input i is x[permutation[i]]; null: x[i]
    int64_t units;
    int step_units;
    int rows;
    uint32_t *packed;
    uint32_t *headers;  // null: none are wanted
};

// One panel times one tile of activations.
struct TileArgs {
    const uint8_t *codes;  // the panel: [units][vectors][64 or 128]
    PanelScales scales;
    int64_t units;                // ceil(K / 8), rounded up to the kernel's unit_multiple
    int step_units;               // units after which the scales are applied: kStepUnits, or
                                  // fewer for smaller groups; the last step may be short
    int64_t steps_per_group;      // steps that share a row of scales
    int vectors;                  // 1, 2 or 4
    int rows;                     // 1..max_rows
    const uint32_t *activations;  // packed, of rows rows
    const uint32_t *headers;      // null if the exact kernels have no offsets to add
    const float *bias;            // of the panel's columns, or null
    const void *residual;         // as y, and may be y; or null
    void *y;                      // first row and column of the tile's outputs, element-aligned
    int64_t y_stride_elems;       // of y and residual
    int columns;  // valid columns, 1..vectors * 16: nothing is read or written beyond
};

using PackTile = void (*)(const PackArgs &args);
using RunTile = void (*)(const TileArgs &args);

// A kernel for one type of weights and dtype of activations. Codes and bias are aligned to 64
// bytes, all other pointers to their elements.
struct LinearKernel {
    PackTile pack_tile;
    RunTile run_tile;
    int words_per_unit;  // size of the packed activations: 32-bit words for a unit of one row
    int words_per_step;  // of headers: 1 in exact kernels, 2 in int8 kernels
    int max_rows;        // of a tile
    int unit_multiple;   // units are rounded up to this, or to a step if that is less
};

// The exact kernel of an instruction set; null if it has none.
const LinearKernel *scalar_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *avx2_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *avx512_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *avx512_bf16_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *amx_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);

// The kernel with int8 activations, likewise; none has e4m3.
const LinearKernel *scalar_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *avx2_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *avx512_vnni_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *amx_int8_linear_kernel(tarpon_weight_type type, tarpon_dtype dtype);

}  // namespace tarpon::cpu
