// The simulated CUDA runtime: memory, streams, graphs, errors. Run alone: runtime_test.
#include <chrono>
#include <cmath>
#include <thread>
#include <vector>

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "sim/test/sim_testing.h"
#include "testing/device_buffer.h"

namespace tarpon::sim_tests {
namespace {

using namespace tarpon::ptx;
using testing::DeviceBuffer;

TARPON_KERNEL void add_kernel(const int *in, int *out, int value) {
    st_global(&out[thread_idx()], ld_global(&in[thread_idx()]) + value);
}
TARPON_KERNEL void null_kernel(const int *in) {
    (void)ld_global(in);
}

struct StreamHandle {
    StreamHandle() {
        testing::check_cuda(cudaStreamCreateWithFlags(&raw, cudaStreamNonBlocking), "create");
    }
    ~StreamHandle() { (void)cudaStreamDestroy(raw); }
    cudaStream_t raw = nullptr;
};

TARPON_TEST(test_runtime_device_properties) {
    int count = 0, processors = 0;
    testing::check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    CHECK_EQ(count, 1);
    CHECK_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
    (void)cudaGetLastError();
    cudaDeviceProp properties;
    CHECK_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
    CHECK_EQ(10 * properties.major + properties.minor, 80);
    CHECK_EQ(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    CHECK_EQ(processors, properties.multiProcessorCount);
    CHECK_EQ(cudaGetDeviceProperties(&properties, 1), cudaErrorInvalidDevice);
    (void)cudaGetLastError();
}

TARPON_TEST(test_runtime_memory_starts_as_nan_between_red_zones) {
    float *memory = nullptr;
    const int64_t before = live_allocations();
    CHECK_EQ(cudaMalloc(&memory, 16), cudaSuccess);
    CHECK_EQ(live_allocations(), before + 1);
    CHECK_EQ(uintptr_t(memory) % 256, uintptr_t(0));
    float values[4] = {};
    CHECK_EQ(cudaMemcpy(values, memory, 16, cudaMemcpyDeviceToHost), cudaSuccess);
    for (float value : values)
        CHECK(std::isnan(value));
    CHECK_EQ(cudaMemcpy(memory, values, 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK_EQ(cudaMemcpy(memory + 1, memory, 16, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
    CHECK_EQ(cudaMemset(memory, 0, 17), cudaErrorInvalidValue);
    CHECK_EQ(cudaMemcpy(values, values, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK_EQ(cudaFree(memory + 1), cudaErrorInvalidValue);
    CHECK_EQ(cudaFree(memory), cudaSuccess);
    CHECK_EQ(cudaFree(memory), cudaErrorInvalidValue);
    CHECK_EQ(cudaFree(nullptr), cudaSuccess);
    CHECK_EQ(live_allocations(), before);
    (void)cudaGetLastError();
}

TARPON_TEST(test_runtime_refuses_more_memory_than_there_is) {
    size_t free_bytes = 0, total_bytes = 0;
    CHECK_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
    void *memory = nullptr;
    CHECK_EQ(cudaMalloc(&memory, total_bytes + 1), cudaErrorMemoryAllocation);
    CHECK_EQ(memory, static_cast<void *>(nullptr));
    CHECK_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
}

// Copying uninitialised bytes on the device does not make them initialised.
TARPON_TEST(test_runtime_copies_carry_initialisation) {
    int *a = nullptr, *b = nullptr;
    testing::check_cuda(cudaMalloc(&a, 128), "cudaMalloc");
    testing::check_cuda(cudaMalloc(&b, 128), "cudaMalloc");
    testing::check_cuda(cudaMemcpy(b, a, 128, cudaMemcpyDeviceToDevice), "cudaMemcpy");
    expect_report(launch(add_kernel, 1, 32, 0, nullptr, b, a, 1), {"uninitialised", "add_kernel"});
    testing::check_cuda(cudaMemset(a, 0, 128), "cudaMemset");
    testing::check_cuda(cudaMemcpy(b, a, 128, cudaMemcpyDeviceToDevice), "cudaMemcpy");
    CHECK_EQ(launch(add_kernel, 1, 32, 0, nullptr, b, a, 1), cudaSuccess);
    (void)cudaFree(a);
    (void)cudaFree(b);
}

TARPON_TEST(test_runtime_failure_is_sticky_and_explained) {
    expect_report(launch(null_kernel, 1, 32, 0, nullptr, nullptr),
                  {"out of bounds", "null_kernel"});
    (void)launch(null_kernel, 1, 32, 0, nullptr, nullptr);
    int *memory = nullptr;
    CHECK_EQ(cudaMalloc(&memory, 4), cudaErrorLaunchFailure);
    CHECK_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    CHECK_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    CHECK_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    CHECK_EQ(cudaGetErrorName(cudaErrorLaunchFailure), "cudaErrorLaunchFailure");
    reset();
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
    CHECK_EQ(last_report(), "");
}

TARPON_TEST(test_runtime_graph_replays_with_its_arguments) {
    StreamHandle stream;
    const DeviceBuffer<int> in(std::vector<int>(32, 5)), middle(32), out(32);
    testing::check_cuda(cudaStreamBeginCapture(stream.raw, cudaStreamCaptureModeGlobal), "begin");
    int value = 10;
    testing::check_cuda(
        cudaMemcpyAsync(middle.data(), in.data(), 128, cudaMemcpyDeviceToDevice, stream.raw),
        "copy");
    testing::check_cuda(
        launch(add_kernel, 1, 32, 0, stream.raw, middle.data(), middle.data(), value), "launch");
    value = 100;  // arguments were copied
    testing::check_cuda(launch(add_kernel, 1, 32, 0, stream.raw, middle.data(), out.data(), value),
                        "launch");
    cudaStreamCaptureStatus status;
    testing::check_cuda(cudaStreamIsCapturing(stream.raw, &status), "is capturing");
    CHECK_EQ(status, cudaStreamCaptureStatusActive);
    cudaGraph_t graph = nullptr;
    testing::check_cuda(cudaStreamEndCapture(stream.raw, &graph), "end");
    expect_report(launch(add_kernel, 1, 32, 0, nullptr, out.data(), middle.data(), 0),
                  {"uninitialised"});  // so nothing ran while it was captured

    cudaGraphExec_t executable = nullptr;
    testing::check_cuda(cudaGraphInstantiate(&executable, graph), "instantiate");
    testing::check_cuda(cudaGraphDestroy(graph), "destroy");
    for (int replay = 0; replay < 3; ++replay) {
        testing::check_cuda(cudaMemset(out.data(), 0, 128), "cudaMemset");
        testing::check_cuda(cudaGraphLaunch(executable, stream.raw), "graph launch");
        testing::check_cuda(cudaStreamSynchronize(stream.raw), "synchronize");
        for (int result : out.to_host())
            CHECK_EQ(result, 115, "replay %d", replay);
    }
    testing::check_cuda(cudaGraphExecDestroy(executable), "destroy");
}

// What a run must not do if it is to be captured.
TARPON_TEST(test_runtime_capture_refuses_allocation_and_synchronisation) {
    enum class Forbidden { kMalloc, kFree, kStreamSync, kDeviceSync, kCopy };
    for (Forbidden call : {Forbidden::kMalloc, Forbidden::kFree, Forbidden::kStreamSync,
                           Forbidden::kDeviceSync, Forbidden::kCopy}) {
        StreamHandle stream;
        const DeviceBuffer<int> memory(std::vector<int>(32));
        testing::check_cuda(cudaStreamBeginCapture(stream.raw, cudaStreamCaptureModeThreadLocal),
                            "begin");
        cudaError_t error = cudaSuccess;
        int *fresh = nullptr;
        int host[32];
        switch (call) {
            case Forbidden::kMalloc:
                error = cudaMalloc(&fresh, 4);
                break;
            case Forbidden::kFree:
                error = cudaFree(memory.data());
                break;
            case Forbidden::kStreamSync:
                error = cudaStreamSynchronize(stream.raw);
                break;
            case Forbidden::kDeviceSync:
                error = cudaDeviceSynchronize();
                break;
            case Forbidden::kCopy:
                error = cudaMemcpy(host, memory.data(), 128, cudaMemcpyDeviceToHost);
                break;
        }
        CHECK_EQ(error, cudaErrorStreamCaptureUnsupported, "call %d", int(call));
        CHECK_EQ(launch(add_kernel, 1, 32, 0, stream.raw, memory.data(), memory.data(), 1),
                 cudaErrorStreamCaptureInvalidated, "call %d", int(call));
        cudaGraph_t graph = nullptr;
        CHECK_EQ(cudaStreamEndCapture(stream.raw, &graph), cudaErrorStreamCaptureInvalidated,
                 "call %d", int(call));
        (void)cudaGetLastError();
    }
}

// Another thread's allocation does not disturb a thread-local capture.
TARPON_TEST(test_runtime_capture_is_of_one_thread) {
    StreamHandle stream;
    testing::check_cuda(cudaStreamBeginCapture(stream.raw, cudaStreamCaptureModeThreadLocal),
                        "begin");
    cudaError_t error = cudaErrorUnknown;
    std::thread([&] {
        int *memory = nullptr;
        error = cudaMalloc(&memory, 4);
        (void)cudaFree(memory);
    }).join();
    CHECK_EQ(error, cudaSuccess);
    cudaGraph_t graph = nullptr;
    CHECK_EQ(cudaStreamEndCapture(stream.raw, &graph), cudaSuccess);
    CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// Launches of several host threads take turns, whatever stacks they come from.
TARPON_TEST(test_runtime_launches_from_many_threads) {
    constexpr int kThreads = 4, kLaunches = 50;
    std::vector<std::thread> threads;
    std::vector<int> results(kThreads);
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([t, &results] {
            const DeviceBuffer<int> memory(std::vector<int>(32, t));
            for (int i = 0; i < kLaunches; ++i) {
                testing::check_cuda(
                    launch(add_kernel, 1, 32, 0, nullptr, memory.data(), memory.data(), 1),
                    "launch");
            }
            results[size_t(t)] = memory.to_host()[31];
        });
    }
    for (std::thread &thread : threads)
        thread.join();
    for (int t = 0; t < kThreads; ++t)
        CHECK_EQ(results[size_t(t)], t + kLaunches, "thread %d", t);
}

TARPON_TEST(test_runtime_events_measure_time) {
    cudaEvent_t start = nullptr, end = nullptr;
    testing::check_cuda(cudaEventCreate(&start), "create");
    testing::check_cuda(cudaEventCreate(&end), "create");
    testing::check_cuda(cudaEventRecord(start), "record");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    testing::check_cuda(cudaEventRecord(end), "record");
    testing::check_cuda(cudaEventSynchronize(end), "synchronize");
    float milliseconds = 0;
    testing::check_cuda(cudaEventElapsedTime(&milliseconds, start, end), "elapsed");
    CHECK(milliseconds >= 2, "%f ms", double(milliseconds));
    (void)cudaEventDestroy(start);
    (void)cudaEventDestroy(end);
}

}  // namespace
}  // namespace tarpon::sim_tests
