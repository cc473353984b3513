// Device memory between guards, filled with NaN, on a GPU and on the simulator alike.
#pragma once

#include <cuda_runtime.h>

#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "testing/guarded.h"
#include "testing/test.h"

namespace tarpon::testing {

inline void check_cuda(cudaError_t status, const char *call) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

// Ends the test as skipped where there is no device.
inline void require_device() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) SKIP("no CUDA device: %s", cudaGetErrorString(status));
}

template <class T>
class DeviceBuffer {
  public:
    // On the simulator the contents count as uninitialised, on a GPU they are NaN.
    explicit DeviceBuffer(size_t count) : count_(count) {
        const size_t bytes = count * sizeof(T);
        check_cuda(cudaMalloc(&raw_, bytes + 2 * kGuardBytes), "cudaMalloc");
        check_cuda(cudaMemset(raw_, kPoison, kGuardBytes), "cudaMemset");
        check_cuda(cudaMemset(raw_ + kGuardBytes + bytes, kPoison, kGuardBytes), "cudaMemset");
#ifdef __CUDACC__
        check_cuda(cudaMemset(raw_ + kGuardBytes, kPoison, bytes), "cudaMemset");
#endif
    }
    explicit DeviceBuffer(std::span<const T> values) : DeviceBuffer(values.size()) {
        check_cuda(cudaMemcpy(data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
                   "cudaMemcpy");
    }
    explicit DeviceBuffer(const std::vector<T> &values)
        : DeviceBuffer(std::span<const T>(values)) {}
    ~DeviceBuffer() {
        (void)cudaFree(raw_);
    }
    DeviceBuffer(const DeviceBuffer &) = delete;
    DeviceBuffer &operator=(const DeviceBuffer &) = delete;

    T *data() const {
        return reinterpret_cast<T *>(raw_ + kGuardBytes);
    }
    size_t size() const {
        return count_;
    }

    // Waits for the device.
    std::vector<T> to_host() const {
        std::vector<T> out(count_);
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        check_cuda(cudaMemcpy(out.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost),
                   "cudaMemcpy");
        return out;
    }
    bool guards_intact() const {
        std::vector<unsigned char> guards(2 * kGuardBytes);
        check_cuda(cudaMemcpy(guards.data(), raw_, kGuardBytes, cudaMemcpyDeviceToHost),
                   "cudaMemcpy");
        check_cuda(cudaMemcpy(guards.data() + kGuardBytes, raw_ + kGuardBytes + count_ * sizeof(T),
                              kGuardBytes, cudaMemcpyDeviceToHost),
                   "cudaMemcpy");
        return is_poison(guards.data(), guards.size());
    }

  private:
    size_t count_;
    unsigned char *raw_ = nullptr;
};

}  // namespace tarpon::testing
