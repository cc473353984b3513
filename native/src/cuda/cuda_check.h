// Turns CUDA runtime errors into tarpon::Error (cold paths) or a status (runs).
#pragma once

#include <cuda_runtime.h>

#include "status.h"

namespace tarpon::gpu {

// Both forget the runtime's last error, which they report: an application that asks for its own
// must not find it. (Errors that end the context stay.)
inline void check_cuda(cudaError_t status, const char *call) {
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();
    fail(TARPON_ERROR_CUDA, "%s failed: %s (%s)", call, cudaGetErrorString(status),
         cudaGetErrorName(status));
}

inline tarpon_status cuda_status(cudaError_t status, const char *call) noexcept {
    if (status == cudaSuccess) return TARPON_OK;
    (void)cudaGetLastError();
    return set_error(TARPON_ERROR_CUDA, "%s failed: %s (%s)", call, cudaGetErrorString(status),
                     cudaGetErrorName(status));
}

}  // namespace tarpon::gpu
