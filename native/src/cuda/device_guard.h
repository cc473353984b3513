// Makes a device current for one scope and puts back what the caller had.
#pragma once

#include <cuda_runtime.h>

#include "cuda/cuda_check.h"

namespace tarpon::gpu {

class DeviceGuard {
  public:
    explicit DeviceGuard(int ordinal) {
        check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
        if (previous_ != ordinal) {
            check_cuda(cudaSetDevice(ordinal), "cudaSetDevice");
            switched_ = true;
        }
    }
    ~DeviceGuard() {
        if (switched_) (void)cudaSetDevice(previous_);
    }
    DeviceGuard(const DeviceGuard &) = delete;
    DeviceGuard &operator=(const DeviceGuard &) = delete;

  private:
    int previous_ = 0;
    bool switched_ = false;
};

}  // namespace tarpon::gpu
