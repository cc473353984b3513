// Makes a device current for one scope and puts back what the caller had. A thread that had none
// yet counts as having device 0, which the runtime gives a context when it is put back.
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

// What `body` returns with the device current; for runs, which do not throw.
template <class Body>
tarpon_status on_device(int ordinal, Body body) noexcept {
    try {
        DeviceGuard guard(ordinal);
        return body();
    } catch (const Error &error) {
        return set_error(error.status(), "%s", error.what());
    } catch (const std::exception &) {
        return set_error(TARPON_ERROR_OUT_OF_MEMORY, "host memory is exhausted");
    }
}

}  // namespace tarpon::gpu
