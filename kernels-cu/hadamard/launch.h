// What the GPU backend calls (native/src/cuda/hadamard.cc); implemented by launch.cu for a GPU and
// for the simulator.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/types.h"

namespace tarpon::hadamard {

// Lets the kernels of sizes with a base matrix use as much shared memory as the current device
// has for a block. Cold: once a device.
cudaError_t prepare_device();

// The bytes of shared memory that size n needs of a block; beyond what the device has, run() must
// not be called. n must be supported (matrix.h).
int shared_bytes(int base, int power);

// y = H x for rows >= 1 of n = base * power elements each; T is float, half_t or bf16_t.
template <class T>
cudaError_t run(const T *x, T *y, int64_t rows, int base, int power, float scale,
                cudaStream_t stream);

}  // namespace tarpon::hadamard
