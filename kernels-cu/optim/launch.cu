// Launches the optimizers' kernels.
#include "optim/launch.h"

#include <algorithm>

#include "optim/blockwise.cuh"
#include "optim/measure.cuh"
#include "optim/step.cuh"

namespace tarpon::optim {
namespace {

// Blocks of threads that a multiprocessor can hold, by registers; grids are persistent.
constexpr int kBlocksPerMultiprocessor = 4;

int persistent_grid(int64_t work, int multiprocessors) {
    return int(std::clamp<int64_t>(work, 1, int64_t(multiprocessors) * kBlocksPerMultiprocessor));
}

template <class R>
cudaError_t launch_step(const StepParams &p, Update update, const PlanShape &shape,
                        cudaStream_t stream) {
    return launch(sm80_optim_step_kernel<R>,
                  persistent_grid(p.memory.chunk_count, shape.multiprocessors), kThreads,
                  sizeof(StepStorage), stream, p, update);
}

cudaError_t launch_prepare(const StepParams &p, const PlanShape &shape, cudaStream_t stream) {
    const int64_t work = p.measure_grads ? p.memory.chunk_count : 1;
    return launch(sm80_optim_prepare_kernel, persistent_grid(work, shape.multiprocessors), kThreads,
                  sizeof(MeasureStorage), stream, p);
}

cudaError_t launch_directions(const StepParams &p, const PlanShape &shape, cudaStream_t stream) {
    return launch(sm80_optim_directions_kernel,
                  persistent_grid(p.memory.chunk_count, shape.multiprocessors), kThreads,
                  sizeof(StepStorage) + sizeof(MeasureStorage), stream, p);
}

cudaError_t launch_columns(const StepParams &p, const PlanShape &shape, cudaStream_t stream) {
    const auto strips = unsigned((shape.most_columns + kStripColumns - 1) / kStripColumns);
    return launch(sm80_optim_columns_kernel, dim3(strips, unsigned(p.memory.tensor_count)),
                  kThreads, sizeof(ColumnStorage), stream, p);
}

cudaError_t launch_update(const StepParams &p, const PlanShape &shape, cudaStream_t stream) {
    switch (p.rule) {
        case Rule::kAdam:
        case Rule::kAdamW:
            return launch_step<AdamRule>(p, Update::kAdam, shape, stream);
        case Rule::kSgd:
            return launch_step<SgdRule>(p, Update::kSgd, shape, stream);
        case Rule::kRmsprop:
            return launch_step<RmspropRule>(p, Update::kRmsprop, shape, stream);
        case Rule::kAdagrad:
            return launch_step<AdagradRule>(p, Update::kAdagrad, shape, stream);
        case Rule::kLion:
            return launch_step<LionRule>(p, Update::kLion, shape, stream);
        case Rule::kAdemamix:
            return launch_step<AdemamixRule>(p, Update::kAdemamix, shape, stream);
        case Rule::kLamb:
            return launch_step<LambRule>(p, Update::kLamb, shape, stream);
        case Rule::kLars:
            return launch_step<LarsRule>(p, Update::kLars, shape, stream);
        case Rule::kAdabelief:
            return launch_step<AdabeliefRule>(p, Update::kAdabelief, shape, stream);
        case Rule::kSophiaG:
            return launch_step<SophiaRule>(p, Update::kSophia, shape, stream);
        case Rule::kScale:
            break;
    }
    if (shape.plain) {
        const cudaError_t status = launch_step<ScaleRule>(p, Update::kScale, shape, stream);
        if (status != cudaSuccess || !shape.momentum) return status;
    }
    return launch_step<ScaleMomentumRule>(p, Update::kScaleMomentum, shape, stream);
}

}  // namespace

cudaError_t run_step(const StepParams &params, const PlanShape &shape, cudaStream_t stream) {
    cudaError_t status = launch_prepare(params, shape, stream);
    if (status == cudaSuccess && params.rule == Rule::kLamb) {
        status = launch_directions(params, shape, stream);
    }
    if (status == cudaSuccess && params.rule == Rule::kScale) {
        status = launch_columns(params, shape, stream);
    }
    return status == cudaSuccess ? launch_update(params, shape, stream) : status;
}

cudaError_t run_refresh(const StepParams &params, const PlanShape &shape, cudaStream_t stream) {
    const cudaError_t status = launch_prepare(params, shape, stream);
    if (status != cudaSuccess) return status;
    return launch_step<SophiaHessianRule>(params, Update::kSophiaHessian, shape, stream);
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
