// Turns CUDA runtime errors into tarpon::Error (cold paths) or a status (runs).
#pragma once

#include <cuda_runtime.h>

#include "status.h"

namespace tarpon::gpu {

inline void check_cuda(cudaError_t status, const char *call) {
    if (status == cudaSuccess) return;
    fail(TARPON_ERROR_CUDA, "%s failed: %s (%s)", call, cudaGetErrorString(status),
         cudaGetErrorName(status));
}

inline tarpon_status cuda_status(cudaError_t status, const char *call) noexcept {
    if (status == cudaSuccess) return TARPON_OK;
    return set_error(TARPON_ERROR_CUDA, "%s failed: %s (%s)", call, cudaGetErrorString(status),
                     cudaGetErrorName(status));
}

}  // namespace tarpon::gpu
