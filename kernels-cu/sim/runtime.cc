// The simulated CUDA runtime: errors, the device, memory, launches. See include/cuda_runtime.h.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

#include "sim/control.h"
#include "sim/device.h"
#include "sim/engine.h"
#include "sim/global_memory.h"
#include "sim/runtime_state.h"

namespace tarpon::sim {
namespace {

constexpr int kCudaVersion = 13000;
constexpr int kDeviceCount = 1;

thread_local cudaError_t last_error = cudaSuccess;

// Dynamic shared memory that kernels asked for by cudaFuncSetAttribute.
std::map<const void *, size_t> &shared_limits() {
    static std::map<const void *, size_t> limits;
    return limits;
}

size_t shared_limit(const void *kernel) {
    const auto found = shared_limits().find(kernel);
    return found == shared_limits().end() ? kDefaultSharedLimit : found->second;
}

cudaError_t check_launch(const Launch &launch) {
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const cudaDeviceProp limits = device_properties();
    if (blocks == 0 || launch.grid.x > unsigned(limits.maxGridSize[0]) ||
        launch.grid.y > unsigned(limits.maxGridSize[1]) ||
        launch.grid.z > unsigned(limits.maxGridSize[2]) || launch.block == 0 ||
        launch.block > unsigned(kMaxBlockThreads)) {
        return cudaErrorInvalidConfiguration;
    }
    // Warp operations name all 32 lanes, so a partial warp could not run any.
    if (launch.block % 32) return cudaErrorInvalidConfiguration;
    if (launch.shared_bytes > shared_limit(launch.kernel)) return cudaErrorInvalidValue;
    return cudaSuccess;
}

cudaError_t run_launch(const Launch &launch) {
    std::string report = engine().run(launch);
    if (report.empty()) return cudaSuccess;
    Runtime &state = runtime();
    state.report = std::move(report);
    state.failure_text = "unspecified launch failure; the simulator reports " + state.report;
    state.sticky = cudaErrorLaunchFailure;
    return state.sticky;
}

// Whether a host's copy may touch the range: anything in device memory must be inside one
// allocation; what is not device memory is the caller's own.
bool is_valid_range(const void *pointer, size_t bytes, bool must_be_device) {
    GlobalMemory &memory = global_memory();
    if (memory.find(pointer, bytes)) return true;
    return !must_be_device && !memory.find(pointer, 0);
}

cudaError_t copy_now(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return cudaSuccess;  // of any pointers, as in CUDA
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!is_valid_range(dst, bytes, to_device) || !is_valid_range(src, bytes, from_device)) {
        return cudaErrorInvalidValue;
    }
    std::memmove(dst, src, bytes);
    global_memory().copy_written(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t allocate(void **address, size_t bytes, bool is_host) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (cudaError_t error = check_not_capturing()) return set_last(error);
    if (!address) return set_last(cudaErrorInvalidValue);
    *address = nullptr;
    if (bytes == 0) return cudaSuccess;
    const size_t total = device_properties().totalGlobalMem;
    if (!is_host && bytes > total - std::min(total, global_memory().total_bytes())) {
        return set_last(cudaErrorMemoryAllocation);
    }
    *address = global_memory().allocate(bytes, is_host);
    return set_last(*address ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t release(void *address) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_not_capturing()) return set_last(error);
    // After a failed launch memory is still given back, though the call says what happened.
    if (address && !global_memory().free(address)) return set_last(cudaErrorInvalidValue);
    return check_usable();
}

}  // namespace

Runtime &runtime() {
    static Runtime instance;
    return instance;
}

cudaError_t set_last(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

cudaError_t check_usable() {
    Runtime &state = runtime();
    if (state.sticky != cudaSuccess) return set_last(state.sticky);
    try {
        (void)arch();
    } catch (const std::invalid_argument &error) {
        state.failure_text = error.what();
        return set_last(cudaErrorUnknown);
    }
    return cudaSuccess;
}

cudaError_t submit(Launch launch, cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (cudaError_t error = check_launch(launch)) return set_last(error);
    return set_last(run_on(stream, [launch = std::move(launch)] { return run_launch(launch); }));
}

const std::string &last_report() {
    return runtime().report;
}

void reset() {
    Guard guard(runtime().mutex);
    runtime().sticky = cudaSuccess;
    runtime().report.clear();
    last_error = cudaSuccess;
}

Traffic traffic(const void *address) {
    Guard guard(runtime().mutex);
    const Allocation *allocation = global_memory().find(address, 1);
    return allocation ? allocation->traffic : Traffic{};
}

int64_t live_allocations() {
    Guard guard(runtime().mutex);
    return global_memory().count();
}

}  // namespace tarpon::sim

using namespace tarpon::sim;

cudaError_t cudaGetLastError() {
    const cudaError_t error = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    Guard guard(runtime().mutex);
    return runtime().sticky != cudaSuccess ? runtime().sticky : last_error;
}

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
#define TARPON_NAME(value) \
    case value:            \
        return #value;
        TARPON_NAME(cudaSuccess)
        TARPON_NAME(cudaErrorInvalidValue)
        TARPON_NAME(cudaErrorMemoryAllocation)
        TARPON_NAME(cudaErrorInvalidConfiguration)
        TARPON_NAME(cudaErrorInsufficientDriver)
        TARPON_NAME(cudaErrorInvalidDeviceFunction)
        TARPON_NAME(cudaErrorNoDevice)
        TARPON_NAME(cudaErrorInvalidDevice)
        TARPON_NAME(cudaErrorNoKernelImageForDevice)
        TARPON_NAME(cudaErrorInvalidResourceHandle)
        TARPON_NAME(cudaErrorNotReady)
        TARPON_NAME(cudaErrorLaunchFailure)
        TARPON_NAME(cudaErrorStreamCaptureUnsupported)
        TARPON_NAME(cudaErrorStreamCaptureInvalidated)
        TARPON_NAME(cudaErrorIllegalState)
        TARPON_NAME(cudaErrorUnknown)
#undef TARPON_NAME
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorInvalidValue:
            return "invalid argument";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInvalidConfiguration:
            return "invalid configuration argument (the simulator wants blocks of whole warps)";
        case cudaErrorInsufficientDriver:
            return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorInvalidDeviceFunction:
            return "invalid device function";
        case cudaErrorNoDevice:
            return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice:
            return "invalid device ordinal";
        case cudaErrorNoKernelImageForDevice:
            return "no kernel image is available for execution on the device";
        case cudaErrorInvalidResourceHandle:
            return "invalid resource handle";
        case cudaErrorNotReady:
            return "device not ready";
        case cudaErrorStreamCaptureUnsupported:
            return "operation not permitted when stream is capturing";
        case cudaErrorStreamCaptureInvalidated:
            return "operation failed due to a previous error during capture";
        case cudaErrorIllegalState:
            return "the operation cannot be performed in the present state";
        case cudaErrorLaunchFailure:
        case cudaErrorUnknown:
            return runtime().failure_text.c_str();
    }
    return "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = kCudaVersion;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = kCudaVersion;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    *count = kDeviceCount;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return set_last(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (device != 0) return set_last(cudaErrorInvalidDevice);
    *properties = device_properties();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp properties;
    if (cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
            *value = properties.maxThreadsPerBlock;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *value = int(properties.sharedMemPerBlock);
            break;
        case cudaDevAttrWarpSize:
            *value = properties.warpSize;
            break;
        case cudaDevAttrMultiProcessorCount:
            *value = properties.multiProcessorCount;
            break;
        case cudaDevAttrL2CacheSize:
            *value = properties.l2CacheSize;
            break;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            *value = properties.maxThreadsPerMultiProcessor;
            break;
        case cudaDevAttrComputeCapabilityMajor:
            *value = properties.major;
            break;
        case cudaDevAttrComputeCapabilityMinor:
            *value = properties.minor;
            break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = int(properties.sharedMemPerMultiprocessor);
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = int(properties.sharedMemPerBlockOptin);
            break;
        default:
            return set_last(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    *total_bytes = device_properties().totalGlobalMem;
    *free_bytes = *total_bytes - std::min(*total_bytes, global_memory().total_bytes());
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **address, size_t bytes) {
    return allocate(address, bytes, false);
}

cudaError_t cudaMallocHost(void **address, size_t bytes) {
    return allocate(address, bytes, true);
}

cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned) {
    return allocate(address, bytes, true);
}

cudaError_t cudaFree(void *address) {
    return release(address);
}

cudaError_t cudaFreeHost(void *address) {
    return release(address);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    return set_last(run_on(stream, [=] { return copy_now(dst, src, bytes, kind); }));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_not_capturing()) return set_last(error);
    return cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    return set_last(run_on(stream, [=] {
        if (!is_valid_range(dst, bytes, true)) return cudaErrorInvalidValue;
        std::memset(dst, value, bytes);
        global_memory().mark_written(dst, bytes);
        return cudaSuccess;
    }));
}

cudaError_t cudaMemset(void *dst, int value, size_t bytes) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_not_capturing()) return set_last(error);
    return cudaMemsetAsync(dst, value, bytes, nullptr);
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!kernel) return set_last(cudaErrorInvalidValue);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || size_t(value) > arch().shared_per_block_optin) {
        return set_last(cudaErrorInvalidValue);
    }
    shared_limits()[kernel] = std::max(size_t(value), kDefaultSharedLimit);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    *attributes = {};
    attributes->maxThreadsPerBlock = kMaxBlockThreads;
    attributes->ptxVersion = attributes->binaryVersion = arch().number;
    attributes->maxDynamicSharedSizeBytes = int(shared_limit(kernel));
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel,
                                                          int block_threads, size_t shared_bytes) {
    Guard guard(runtime().mutex);
    if (cudaError_t error = check_usable()) return error;
    if (!kernel || block_threads < 1 || block_threads > kMaxBlockThreads) {
        return set_last(cudaErrorInvalidValue);
    }
    *blocks =
        shared_bytes > shared_limit(kernel) ? 0 : blocks_per_processor(block_threads, shared_bytes);
    return cudaSuccess;
}
