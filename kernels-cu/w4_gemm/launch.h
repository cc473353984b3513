// The W4 GEMM of one device: what native/src/cuda/linear.cc calls. Plain C++; the kernels are
// behind it, in launch.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "w4_gemm/select.h"

namespace tarpon::w4_gemm {

// W on the device, as prepare_weights() makes it.
struct Weights {
    int64_t n, k;
    int64_t groups;      // 1: one scale a column
    int64_t group_size;  // a power of two >= kMinGroupSize; ignored for one group
    FormatId format;
    const void *qweight;
    const void *scales;          // null where the finished sums are scaled
    const void *zeros;           // null for formats without zero points
    const void *metadata;        // null for formats that are not sparse
    const float *column_scale;   // [n, padded to 64]
    const float *bias;           // likewise, or null
    const int32_t *permutation;  // [k]: the input of each row of W, or null
};

struct Operands {
    const void *x;         // [m, k], aligned to its elements
    const void *residual;  // [m, n], likewise; may be y; or null
    void *y;               // [m, n], likewise
    int64_t m;             // >= 1
    void
        *workspace;  // launch_workspace_bytes() of the choice; arbitrary contents, 256-byte aligned
};

// Cold: gives the kernels of a format their shared memory on the current device.
cudaError_t prepare(Activation activation, FormatId format, bool grouped);

// Hot: one launch by a choice of select(), or by any other grid and stripe that cover the work.
cudaError_t run(const Weights &weights, Activation activation, const Choice &choice,
                const Operands &operands, cudaStream_t stream);

}  // namespace tarpon::w4_gemm
