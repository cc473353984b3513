// What the benchmarks on GPUs (<family>/bench.cu) share: data, a timer, the roof of a copy.
//
// Figures from here mean: launches are captured in one CUDA graph, so that no launch waits for the
// host; each works on other data than the one before it, at least three times the L2 in all, so that
// it comes from DRAM as in a model; data is random, since zeros run faster.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include "common/launch.cuh"

namespace tarpon::testing {

// Less memory than a benchmark wants: a reason to leave its case out, not to end.
struct OutOfDeviceMemory : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void check(cudaError_t status, const char *what) {
    if (status == cudaSuccess) return;
    const std::string text = std::string(what) + ": " + cudaGetErrorString(status);
    if (status != cudaErrorMemoryAllocation) throw std::runtime_error(text);
    (void)cudaGetLastError();  // it would be reported again by what comes next
    throw OutOfDeviceMemory(text);
}

// kHalf: binary16 of magnitude 2^-5 .. 2^-3, both signs; as fp32, finite and normal.
enum class Fill { kWords, kHalf };

static __global__ void fill_kernel(uint32_t *words, size_t count, uint64_t seed, Fill fill) {
    const size_t stride = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        uint64_t z = (seed << 40) + i * 0x9e3779b97f4a7c15u;  // splitmix64
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        const uint32_t bits = uint32_t(z ^ (z >> 31));
        words[i] = fill == Fill::kWords ? bits : (bits & 0x87ff87ffu) | 0x28002800u;
    }
}

class DeviceArray {
  public:
    DeviceArray(size_t bytes, Fill fill, uint64_t seed) {
        const size_t words = (bytes + 3) / 4;
        const std::string what = "cudaMalloc of " + std::to_string(bytes >> 20) + " MiB";
        check(cudaMalloc(&data_, 4 * words), what.c_str());
        check(launch(fill_kernel, 1024, 256, 0, nullptr, data_, words, seed, fill), "fill_kernel");
    }
    ~DeviceArray() { (void)cudaFree(data_); }
    DeviceArray(const DeviceArray &) = delete;
    DeviceArray &operator=(const DeviceArray &) = delete;
    char *data() const { return reinterpret_cast<char *>(data_); }

  private:
    uint32_t *data_ = nullptr;
};

// The device that is timed, and its stream.
class BenchDevice {
  public:
    BenchDevice() {
        check(cudaGetDeviceProperties(&properties_, 0), "cudaGetDeviceProperties");
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "StreamCreate");
    }
    BenchDevice(const BenchDevice &) = delete;
    BenchDevice &operator=(const BenchDevice &) = delete;

    static bool exists() {
        int devices = 0;
        return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
    }

    const cudaDeviceProp &properties() const { return properties_; }
    cudaStream_t stream() const { return stream_; }

    // Copies of `bytes` that are three times the L2, and enough for a graph long enough to time.
    int rotation(size_t bytes) const {
        return int(std::max<size_t>(3 * size_t(properties_.l2CacheSize) / bytes + 1, 4));
    }

    // Microseconds of one of `launches` calls of enqueue(i), replayed as a graph: the best of ten.
    double time_us(int launches, const std::function<void(int)> &enqueue) const {
        // Not captured: kernels are loaded when they are first launched.
        enqueue(0);
        check(cudaDeviceSynchronize(), "DeviceSynchronize");
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "BeginCapture");
        for (int i = 0; i < launches; ++i)
            enqueue(i);
        check(cudaStreamEndCapture(stream_, &graph), "EndCapture");
        check(cudaGraphInstantiate(&executable, graph, 0), "GraphInstantiate");
        cudaEvent_t begin, end;
        check(cudaEventCreate(&begin), "EventCreate");
        check(cudaEventCreate(&end), "EventCreate");
        float best = 1e30f;
        for (int replay = 0; replay < 12; ++replay) {
            check(cudaEventRecord(begin, stream_), "EventRecord");
            check(cudaGraphLaunch(executable, stream_), "GraphLaunch");
            check(cudaEventRecord(end, stream_), "EventRecord");
            check(cudaEventSynchronize(end), "EventSynchronize");
            float ms = 0;
            check(cudaEventElapsedTime(&ms, begin, end), "EventElapsedTime");
            if (replay >= 2) best = std::min(best, ms);  // the first two warm up
        }
        check(cudaEventDestroy(begin), "EventDestroy");
        check(cudaEventDestroy(end), "EventDestroy");
        check(cudaGraphExecDestroy(executable), "GraphExecDestroy");
        check(cudaGraphDestroy(graph), "GraphDestroy");
        return 1e3 * best / launches;
    }

    // Gigabytes a second, read and written, of cudaMemcpy of eight times the L2.
    double copy_gbps() const {
        const size_t bytes = 8 * size_t(properties_.l2CacheSize);
        const DeviceArray from(bytes, Fill::kWords, 1), to(bytes, Fill::kWords, 2);
        const double us = time_us(4, [&](int) {
            check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream_),
                  "cudaMemcpyAsync");
        });
        return 2 * double(bytes) / us / 1e3;
    }

  private:
    cudaDeviceProp properties_{};
    cudaStream_t stream_ = nullptr;
};

}  // namespace tarpon::testing
