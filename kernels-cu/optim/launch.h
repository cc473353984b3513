// What the GPU backend calls (native/src/cuda/optim_plan.cc); implemented by launch.cu for a GPU
// and for the simulator. All of it is hot and can be captured in a graph.
#pragma once

#include <cuda_runtime.h>

#include "optim/kernels.h"

namespace tarpon::optim {

// What a plan knows of its tensors, beside their memory.
struct PlanShape {
    int64_t most_columns;  // Scale; of any tensor
    bool plain, momentum;  // Scale: there are tensors without, with momentum
    int multiprocessors;
};

// One step: prepare, what the rule has to measure, update. Two launches; three for Lamb and Scale,
// four for a Scale with tensors of both kinds.
cudaError_t run_step(const StepParams &params, const PlanShape &shape, cudaStream_t stream);

// Sophia-G's refresh: two launches.
cudaError_t run_refresh(const StepParams &params, const PlanShape &shape, cudaStream_t stream);

cudaError_t run_quantize(const BlockwiseParams &params, int multiprocessors, cudaStream_t stream);
cudaError_t run_dequantize(const BlockwiseParams &params, int multiprocessors, cudaStream_t stream);

}  // namespace tarpon::optim
