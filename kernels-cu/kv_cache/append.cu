// Launches append and dequantize, a kernel each for four head sizes. Compiled by nvcc and, for the
// simulator, by g++.
#include <algorithm>

#include "kv_cache/append.cuh"
#include "kv_cache/dequantize.cuh"
#include "kv_cache/launch.h"

namespace tarpon::kv_cache {
namespace {

// Enough to fill any GPU many times over; the kernels loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

unsigned blocks_for(int64_t vectors) {
    return unsigned(std::min((vectors + kKernelWarps - 1) / kKernelWarps, kMaxBlocks));
}

template <int kHeadDim>
cudaError_t run(const AppendParams &p, cudaStream_t stream) {
    return launch(sm80_kv_append_kernel<kHeadDim>, blocks_for(p.tokens * p.plan.format.kv_heads),
                  kKernelThreads, sizeof(AppendStorage<kHeadDim>), stream, p);
}

template <int kHeadDim>
cudaError_t run(const DequantizeParams &p, cudaStream_t stream) {
    return launch(sm80_kv_dequantize_kernel<kHeadDim>,
                  blocks_for(p.tokens * p.plan.format.kv_heads), kKernelThreads,
                  sizeof(DequantizeStorage<kHeadDim>), stream, p);
}

template <class Params>
cudaError_t run_head_dim(const Params &params, cudaStream_t stream) {
    switch (params.plan.format.head_dim) {
        case 64:
            return run<64>(params, stream);
        case 96:
            return run<96>(params, stream);
        case 128:
            return run<128>(params, stream);
        default:
            return run<256>(params, stream);
    }
}

}  // namespace

cudaError_t append(const AppendParams &params, cudaStream_t stream) {
    return run_head_dim(params, stream);
}

cudaError_t dequantize(const DequantizeParams &params, cudaStream_t stream) {
    return run_head_dim(params, stream);
}

}  // namespace tarpon::kv_cache
