// The attention kernels of a head size, each in a file of its own (attend_64.cu and on), so that
// they compile side by side; attend.cu chooses and launches.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

struct AttendKernel {
    void (*function)(AttendParams);
    size_t storage_bytes;  // of shared memory, before the stages
};

// row_tiles: 1 or 2, as row_tiles() of config.h gives for the head size.
AttendKernel attend_kernel_64(Scheme scheme, int row_tiles);
AttendKernel attend_kernel_96(Scheme scheme);
AttendKernel attend_kernel_128(Scheme scheme, int row_tiles);
AttendKernel attend_kernel_256(Scheme scheme);

}  // namespace tarpon::kv_cache
