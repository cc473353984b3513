// The contract between the CPU's linear plan (linear.cc) and its kernels, one file an instruction
// set. This header is included by files compiled with wide instruction sets enabled: it must hold
// nothing that compiles to code (no inline functions, no std:: templates), or the linker might
// keep their wide copy for everybody.
//
// Packed weights. Columns are cut into panels of up to 4 vectors of 16 columns, input rows into
// units of 8. A unit of a vector is 64 bytes: lane c (32 bits) holds the 8 codes of column c,
// the code of row 2*j + h in bits 4*j..4*j+3 of its 16-bit half h. So
//   - shifting the halves right by 4*j brings rows 2*j and 2*j+1 to the bottom of both halves, as
//     the row pairs that vdpbf16ps and AMX tiles want, and
//   - the low and the high nibbles of the four bytes are rows 0,4,1,5 and 2,6,3,7, four rows of a
//     column as VNNI wants them.
// A panel is its units in order, each with its vectors in order: one sequential stream. Beside it
// are its scales, a row of 16 * vectors binary16 for each scale group. Padding rows and columns
// have code 8, the weight 0, and scale 0.
//
// Packed activations, for tiles of up to max_rows rows; zero beyond K.
//   Exact kernels: [pair][row][words] of 32-bit words, pair p being the inputs 2*p and 2*p+1. A
//     kernel broadcasts the words in this order, whatever they are: two bfloat16; or two words,
//     two binary32; or two words, the upper and the lower bfloat16 parts of both inputs.
//   Int8 kernels: for every step of 128 inputs float scale[row], int32 correction[row], and then
//     [unit][half][row] of 32-bit words with four int8 in the order of a half's nibbles. An input
//     is int8 * scale, scale = max|x| / 127 over the row's step; the correction is -8 times the
//     sum of the step's int8, for codes that are multiplied with their bias of 8. A step with an
//     input that is not finite has scale NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tarpon.h"

namespace tarpon::cpu {

inline constexpr int kLanes = 16;           // columns of a vector
inline constexpr int kUnitRows = 8;         // input rows of a unit
inline constexpr int kUnitBytes = 64;       // of one vector
inline constexpr int kMaxPanelVectors = 4;  // widths of panels are 4, 2 and 1
inline constexpr int kStepUnits = 16;       // most units of a step, 128 rows
inline constexpr int kStepRows = kStepUnits * kUnitRows;

// One panel times one tile of activations.
struct TileArgs {
    const uint8_t *codes;         // the panel: [units][vectors][64]
    const uint16_t *scales;       // its scales: [groups][vectors * 16]
    int64_t units;                // ceil(K / 8)
    int step_units;               // units after which the scales are applied: kStepUnits, or
                                  // fewer for smaller groups; the last step may be short
    int64_t steps_per_group;      // steps that share a row of scales
    int vectors;                  // 1, 2 or 4
    int rows;                     // 1..max_rows
    const uint32_t *activations;  // packed, of rows rows
    void *y;                      // first row and column of the tile's outputs, element-aligned
    int64_t y_stride_elems;
    int columns;  // valid columns, 1..vectors * 16: nothing is written beyond
};

// Packs `rows` consecutive rows of x, K = k elements each.
using PackTile = void (*)(const void *x, int64_t k, int64_t units, int rows, uint32_t *packed);
using RunTile = void (*)(const TileArgs &args);

// A kernel for one dtype of activations. All pointers are element-aligned, packed ones to 64 bytes.
struct LinearKernel {
    PackTile pack_tile;
    RunTile run_tile;
    int words_per_unit;  // size of the packed activations: 32-bit words for a unit of one row,
    int words_per_step;  // and more for every started step
    int max_rows;        // of a tile
};

// The exact kernel of an instruction set for a dtype; null if it has none.
const LinearKernel *scalar_linear_kernel(tarpon_dtype dtype);
const LinearKernel *avx2_linear_kernel(tarpon_dtype dtype);
const LinearKernel *avx512_linear_kernel(tarpon_dtype dtype);
const LinearKernel *avx512_bf16_linear_kernel(tarpon_dtype dtype);

// The kernel with int8 activations, likewise.
const LinearKernel *scalar_int8_linear_kernel(tarpon_dtype dtype);
const LinearKernel *avx512_vnni_int8_linear_kernel(tarpon_dtype dtype);

}  // namespace tarpon::cpu
