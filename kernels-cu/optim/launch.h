// What the GPU backend calls (native/src/cuda/optim_plan.cc); implemented by launch.cu for a GPU
// and for the simulator. All of it is hot and can be captured in a graph.
#pragma once

#include <cuda_runtime.h>

#include "optim/kernels.h"

namespace tarpon::optim {

// One step of any rule over any list: two launches, prepare and update.
cudaError_t run_step(const StepParams &params, int multiprocessors, cudaStream_t stream);

// Sophia-G's refresh: two launches.
cudaError_t run_refresh(const StepParams &params, int multiprocessors, cudaStream_t stream);

cudaError_t run_quantize(const BlockwiseParams &params, int multiprocessors, cudaStream_t stream);
cudaError_t run_dequantize(const BlockwiseParams &params, int multiprocessors, cudaStream_t stream);

}  // namespace tarpon::optim
