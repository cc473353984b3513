// The GPU backend over the CUDA runtime API. Compiled twice: with cudart for `cuda`, and with the
// simulated runtime of kernels-cu/sim for `sim` (then TARPON_SIM is defined, and the plug-in's
// entry point is here). Nothing below knows which of the two it runs on.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

#include "backend.h"
#include "build_id.h"
#include "cuda/cuda_check.h"
#include "cuda/device_guard.h"
#include "cuda/hadamard.h"
#include "cuda/kv.h"
#include "cuda/linear.h"
#include "cuda/optim_plan.h"
#include "kv_cache.h"

namespace tarpon::gpu {
namespace {

// 10 * major + minor of the architectures that native code is built for; a newer minor of the same
// major runs the code of an older one, except for the architecture-specific 90a.
constexpr int kOldestArch = 80;

class GpuStream : public Stream {
  public:
    GpuStream(int ordinal, cudaStream_t stream, bool owned)
        : ordinal_(ordinal), stream_(stream), owned_(owned) {}
    ~GpuStream() override {
        if (owned_) (void)cudaStreamDestroy(stream_);
    }
    void synchronize() override {
        DeviceGuard guard(ordinal_);
        check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    }
    void *native_handle() const override { return stream_; }

  private:
    int ordinal_;
    cudaStream_t stream_;
    bool owned_;
};

cudaStream_t raw(const Stream *stream) {
    return stream ? static_cast<cudaStream_t>(stream->native_handle()) : nullptr;
}

class GpuDevice : public Device {
  public:
    GpuDevice(int ordinal, const cudaDeviceProp &properties)
        : ordinal_(ordinal), properties_(properties) {
        maps_ = std::make_unique<DeviceMaps>(*this);
    }

    void info(tarpon_device_info &out) const override {
#ifdef TARPON_SIM
        out.kind = TARPON_DEVICE_SIM;
#else
        out.kind = TARPON_DEVICE_CUDA;
#endif
        out.ordinal = ordinal_;
        out.compute_capability = 10 * properties_.major + properties_.minor;
        out.processor_count = properties_.multiProcessorCount;
        out.memory_bytes = properties_.totalGlobalMem;
        std::snprintf(out.name, sizeof out.name, "%.127s", properties_.name);
        std::snprintf(out.isa, sizeof out.isa, "sm_%d", out.compute_capability);
    }

    void *allocate(size_t size_bytes) override {
        DeviceGuard guard(ordinal_);
        void *address = nullptr;
        cudaError_t status = cudaMalloc(&address, size_bytes);
        if (status == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();  // not sticky: the next call must not see it
            fail(TARPON_ERROR_OUT_OF_MEMORY, "%zu bytes of memory of device %d (%s, %zu in all)",
                 size_bytes, ordinal_, properties_.name, properties_.totalGlobalMem);
        }
        check_cuda(status, "cudaMalloc");
        return address;
    }

    // With the device current: a thread that has none would get a context on device 0.
    void free(void *address) noexcept override {
        try {
            DeviceGuard guard(ordinal_);
            (void)cudaFree(address);
        } catch (const std::exception &) {
            // The process ends, or its context is lost: the memory goes with it.
        }
    }

    void copy_to_device(void *dst, const void *src, size_t bytes, Stream *stream) override {
        copy(dst, src, bytes, cudaMemcpyHostToDevice, stream);
    }

    void copy_to_host(void *dst, const void *src, size_t bytes, Stream *stream) override {
        copy(dst, src, bytes, cudaMemcpyDeviceToHost, stream);
    }

    std::unique_ptr<Stream> create_stream() override {
        DeviceGuard guard(ordinal_);
        cudaStream_t stream = nullptr;
        check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                   "cudaStreamCreateWithFlags");
        return std::make_unique<GpuStream>(ordinal_, stream, true);
    }

    std::unique_ptr<Stream> wrap_stream(void *native_handle) override {
        return std::make_unique<GpuStream>(ordinal_, static_cast<cudaStream_t>(native_handle),
                                           false);
    }

    const std::vector<LinearVariant> &linear_variants() const override {
        return gpu::linear_variants();
    }

    const std::vector<OptimVariant> &optim_variants() const override {
        return gpu::optim_variants();
    }

    tarpon_status blockwise_quantize(const BlockwiseArgs &args) noexcept override {
        return blockwise(args, true);
    }

    tarpon_status blockwise_dequantize(const BlockwiseArgs &args) noexcept override {
        return blockwise(args, false);
    }

    tarpon_status hadamard(const HadamardArgs &args) noexcept override {
        return on_device(ordinal_,
                         [&] { return run_hadamard(args, properties_.sharedMemPerBlockOptin); });
    }

    std::unique_ptr<KvPlan> create_kv(const KvProblem &problem) override {
        return create_kv_plan(*this, problem);
    }

  private:
    tarpon_status blockwise(const BlockwiseArgs &args, bool quantize) noexcept {
        return on_device(ordinal_, [&] {
            return run_blockwise(args, *maps_, properties_.multiProcessorCount, quantize);
        });
    }

    void copy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, Stream *stream) {
        DeviceGuard guard(ordinal_);
        check_cuda(cudaMemcpyAsync(dst, src, bytes, kind, raw(stream)), "cudaMemcpyAsync");
        check_cuda(cudaStreamSynchronize(raw(stream)), "cudaStreamSynchronize");
    }

    int ordinal_;
    cudaDeviceProp properties_;
    std::unique_ptr<DeviceMaps> maps_;  // of the block-wise operations
};

class GpuBackend : public Backend {
  public:
    GpuBackend() { probe(); }

    int device_count() override { return count_; }
    std::string unavailable_reason() override { return reason_; }

    std::unique_ptr<Device> open(int ordinal, const tarpon_device_options &) override {
        DeviceGuard guard(ordinal);
        cudaDeviceProp properties;
        check_cuda(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
        if (10 * properties.major + properties.minor < kOldestArch) {
            fail(TARPON_ERROR_DEVICE_UNAVAILABLE,
                 "device %d (%s) has compute capability %d.%d; 8.0 is the oldest supported",
                 ordinal, properties.name, properties.major, properties.minor);
        }
        // All kernels are built for the same architectures, so these stand for every one.
        const cudaError_t prepared = prepare_hadamard();
        if (prepared == cudaErrorNoKernelImageForDevice ||
            prepared == cudaErrorInvalidDeviceFunction) {
            (void)cudaGetLastError();
            fail(TARPON_ERROR_DEVICE_UNAVAILABLE,
                 "this build has no kernels for device %d (%s, compute capability %d.%d); rebuild "
                 "with -DCMAKE_CUDA_ARCHITECTURES=native on a machine that has it",
                 ordinal, properties.name, properties.major, properties.minor);
        }
        check_cuda(prepared, "cudaFuncSetAttribute of the Hadamard kernels");
        return std::make_unique<GpuDevice>(ordinal, properties);
    }

  private:
    void probe() {
        int driver_version = 0, runtime_version = 0;
        (void)cudaRuntimeGetVersion(&runtime_version);
        (void)cudaDriverGetVersion(&driver_version);
        char text[512];
        cudaError_t status = cudaGetDeviceCount(&count_);
        if (status == cudaSuccess && count_ > 0) return;
        (void)cudaGetLastError();
        count_ = 0;
        if (driver_version == 0) {
            std::snprintf(text, sizeof text,
                          "no NVIDIA driver is installed (libcuda.so.1 was not found); install a "
                          "driver for CUDA %d.%d or newer",
                          runtime_version / 1000, runtime_version % 1000 / 10);
        } else if (status == cudaErrorInsufficientDriver) {
            std::snprintf(text, sizeof text,
                          "the NVIDIA driver is too old: it serves CUDA %d.%d and this build needs "
                          "%d.%d; update the driver",
                          driver_version / 1000, driver_version % 1000 / 10, runtime_version / 1000,
                          runtime_version % 1000 / 10);
        } else if (status == cudaErrorNoDevice || status == cudaSuccess) {
            std::snprintf(text, sizeof text,
                          "the driver reports no GPU; if there is one, look at "
                          "nvidia-smi and at CUDA_VISIBLE_DEVICES");
        } else {
            std::snprintf(text, sizeof text, "CUDA could not be initialised: %s (%s)",
                          cudaGetErrorString(status), cudaGetErrorName(status));
        }
        reason_ = text;
    }

    int count_ = 0;
    std::string reason_;
};

Backend &shared_backend() {
    static GpuBackend backend;
    return backend;
}

}  // namespace
}  // namespace tarpon::gpu

#ifdef TARPON_SIM
extern "C" __attribute__((visibility("default"))) tarpon::Backend *tarpon_sim_plugin(
    const char *build_id, tarpon::ErrorStorage error_storage) {
    if (std::strcmp(build_id, tarpon::kBuildId) != 0) return nullptr;
    tarpon::set_error_storage(error_storage);
    return &tarpon::gpu::shared_backend();
}
#else
namespace tarpon {
Backend &cuda_backend() {
    return gpu::shared_backend();
}
}  // namespace tarpon
#endif
