// The Hadamard transform on a GPU or the simulator; called by backend.cc with the device current.
#pragma once

#include <cuda_runtime.h>

#include "backend.h"

namespace tarpon::gpu {

// Cold, once a device. cudaErrorNoKernelImageForDevice if the device's architecture was not built.
cudaError_t prepare_hadamard() noexcept;

// max_shared_bytes: what a block of this device may have (sharedMemPerBlockOptin).
tarpon_status run_hadamard(const HadamardArgs &args, size_t max_shared_bytes) noexcept;

}  // namespace tarpon::gpu
