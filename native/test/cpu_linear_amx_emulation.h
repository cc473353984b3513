// The AMX kernels on tiles that are computed in plain C++, for processors without AMX. They need
// AVX-512 F/BW/DQ/VL and VNNI.
#pragma once

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {

const LinearKernel *emulated_amx_kernel(tarpon_weight_type type, tarpon_dtype dtype);
const LinearKernel *emulated_amx_int8_kernel(tarpon_weight_type type, tarpon_dtype dtype);

// Tile instructions so far, and those that a processor would have refused: a tile that is not
// configured, or shapes that do not fit.
struct EmulatedTileCounts {
    long instructions, faults;
};
EmulatedTileCounts emulated_tile_counts();

}  // namespace tarpon::cpu
