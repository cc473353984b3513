// State that the two halves of the simulated runtime (runtime.cc: device and memory; stream.cc:
// streams, graphs, events) share. One mutex guards everything, kernels included: launches of
// several host threads take turns.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace tarpon::sim {

struct Runtime {
    std::recursive_mutex mutex;
    cudaError_t sticky = cudaSuccess;  // a failed launch: every later call returns it
    std::string report;
    std::string failure_text;  // what cudaGetErrorString returns for the sticky error
    std::vector<CUstream_st *> capturing;
};

Runtime &runtime();

using Guard = std::lock_guard<std::recursive_mutex>;

// Notes an error as this thread's last one and returns it.
cudaError_t set_last(cudaError_t error);

// What every call begins with: the sticky error, or an unusable environment, or success.
cudaError_t check_usable();

// For calls that are illegal while a stream is captured: invalidates the captures they would spoil.
cudaError_t check_not_capturing();

// The operation on a stream: at once, or recorded if the stream is being captured.
cudaError_t run_on(cudaStream_t stream, std::function<cudaError_t()> work);

}  // namespace tarpon::sim
