// Launches the optimizers' kernels.
#include "optim/launch.h"

#include <algorithm>

#include "optim/blockwise.cuh"
#include "optim/measured_step.cuh"

namespace tarpon::optim {
namespace {

// Blocks of threads that a multiprocessor can hold, by registers; grids are persistent.
constexpr int kBlocksPerMultiprocessor = 4;

int persistent_grid(int64_t work, int multiprocessors) {
    return int(std::clamp<int64_t>(work, 1, int64_t(multiprocessors) * kBlocksPerMultiprocessor));
}

cudaError_t launch_prepare(const StepParams &p, int multiprocessors, cudaStream_t stream) {
    const int64_t work = p.measure_grads ? p.memory.chunk_count : 1;
    return launch(sm80_optim_prepare_kernel, persistent_grid(work, multiprocessors), kThreads,
                  sizeof(MeasureStorage), stream, p);
}

template <class R>
cudaError_t launch_step(const StepParams &p, int multiprocessors, cudaStream_t stream) {
    return launch(sm80_optim_step_kernel<R>, persistent_grid(p.memory.chunk_count, multiprocessors),
                  kThreads, sizeof(StepStorage), stream, p);
}

template <class M>
cudaError_t launch_measured_step(const StepParams &p, int multiprocessors, cudaStream_t stream) {
    const int64_t work = p.memory.measure_count + p.memory.chunk_count;
    return launch(sm80_optim_measured_step_kernel<M>, persistent_grid(work, multiprocessors),
                  kThreads, sizeof(MeasuredStorage), stream, p);
}

cudaError_t launch_update(const StepParams &p, int multiprocessors, cudaStream_t stream) {
    switch (p.rule) {
        case Rule::kAdam:
        case Rule::kAdamW:
            return launch_step<AdamRule>(p, multiprocessors, stream);
        case Rule::kSgd:
            return launch_step<SgdRule>(p, multiprocessors, stream);
        case Rule::kRmsprop:
            return launch_step<RmspropRule>(p, multiprocessors, stream);
        case Rule::kAdagrad:
            return launch_step<AdagradRule>(p, multiprocessors, stream);
        case Rule::kLion:
            return launch_step<LionRule>(p, multiprocessors, stream);
        case Rule::kAdemamix:
            return launch_step<AdemamixRule>(p, multiprocessors, stream);
        case Rule::kLamb:
            return launch_measured_step<LambMeasure>(p, multiprocessors, stream);
        case Rule::kLars:
            return launch_step<LarsRule>(p, multiprocessors, stream);
        case Rule::kAdabelief:
            return launch_step<AdabeliefRule>(p, multiprocessors, stream);
        case Rule::kSophiaG:
            return launch_step<SophiaRule>(p, multiprocessors, stream);
        case Rule::kScale:
            break;
    }
    return launch_measured_step<ScaleMeasure>(p, multiprocessors, stream);
}

}  // namespace

cudaError_t run_step(const StepParams &params, int multiprocessors, cudaStream_t stream) {
    const cudaError_t status = launch_prepare(params, multiprocessors, stream);
    return status == cudaSuccess ? launch_update(params, multiprocessors, stream) : status;
}

cudaError_t run_refresh(const StepParams &params, int multiprocessors, cudaStream_t stream) {
    const cudaError_t status = launch_prepare(params, multiprocessors, stream);
    if (status != cudaSuccess) return status;
    return launch_step<SophiaHessianRule>(params, multiprocessors, stream);
}

cudaError_t run_quantize(const BlockwiseParams &params, int multiprocessors, cudaStream_t stream) {
    return launch(sm80_optim_quantize_kernel,
                  persistent_grid((params.blocks + kWarps - 1) / kWarps, multiprocessors), kThreads,
                  sizeof(BlockwiseStorage), stream, params);
}

cudaError_t run_dequantize(const BlockwiseParams &params, int multiprocessors,
                           cudaStream_t stream) {
    return launch(sm80_optim_dequantize_kernel,
                  persistent_grid((params.blocks + kWarps - 1) / kWarps, multiprocessors), kThreads,
                  sizeof(BlockwiseStorage), stream, params);
}

}  // namespace tarpon::optim
