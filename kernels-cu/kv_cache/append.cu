// Launches append and dequantize, a kernel each for two modes and four head sizes. Compiled by nvcc
// and, for the simulator, by g++.
#include <algorithm>
#include <cstddef>

#include "kv_cache/append_rotatekv.cuh"
#include "kv_cache/dequantize_rotatekv.cuh"
#include "kv_cache/launch.h"

namespace tarpon::kv_cache {
namespace {

// Enough to fill any GPU many times over; the kernels loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

unsigned blocks_for(int64_t vectors) {
    return unsigned(std::min((vectors + kKernelWarps - 1) / kKernelWarps, kMaxBlocks));
}

template <int kHeadDim>
size_t append_rotatekv_bytes(int kv_heads) {
    return offsetof(AppendRotatekvStorage<kHeadDim>, keys) + sizeof(float) * kv_heads * kHeadDim;
}

template <int kHeadDim>
cudaError_t run(const AppendParams &p, cudaStream_t stream) {
    const Format &f = p.plan.format;
    if (f.scheme == Scheme::kRotatekv) {
        return launch(sm80_kv_append_rotatekv_kernel<kHeadDim>,
                      unsigned(std::min(p.tokens, kMaxBlocks)), kKernelThreads,
                      append_rotatekv_bytes<kHeadDim>(f.kv_heads), stream, p);
    }
    const int64_t blocks = (p.tokens + p.tile.tokens - 1) / p.tile.tokens *
                           ((f.kv_heads + p.tile.heads - 1) / p.tile.heads);
    return launch(sm80_kv_append_kernel<kHeadDim>, unsigned(std::min(blocks, kMaxBlocks)),
                  kKernelThreads, sizeof(AppendStorage<kHeadDim>), stream, p);
}

template <int kHeadDim>
cudaError_t run(const DequantizeParams &p, cudaStream_t stream) {
    const Format &f = p.plan.format;
    if (f.scheme == Scheme::kRotatekv) {
        return launch(sm80_kv_dequantize_rotatekv_kernel<kHeadDim>,
                      blocks_for(p.tokens * (f.kv_heads / p.plan.rotation_heads)), kKernelThreads,
                      sizeof(DequantizeRotatekvStorage<kHeadDim>), stream, p);
    }
    return launch(sm80_kv_dequantize_kernel<kHeadDim>, blocks_for(p.tokens * f.kv_heads),
                  kKernelThreads, sizeof(DequantizeStorage<kHeadDim>), stream, p);
}

// What needs shared memory beyond what a kernel has without asking.
struct PrepareAppend {
    Format format;
};

template <int kHeadDim>
cudaError_t run(const PrepareAppend &p, cudaStream_t) {
    if (p.format.scheme == Scheme::kTarpon) return cudaSuccess;
    return prepare(sm80_kv_append_rotatekv_kernel<kHeadDim>,
                   append_rotatekv_bytes<kHeadDim>(p.format.kv_heads));
}

const Format &format_of(const AppendParams &p) {
    return p.plan.format;
}
const Format &format_of(const DequantizeParams &p) {
    return p.plan.format;
}
const Format &format_of(const PrepareAppend &p) {
    return p.format;
}

template <class Params>
cudaError_t run_head_dim(const Params &params, cudaStream_t stream) {
    switch (format_of(params).head_dim) {
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

cudaError_t prepare_append(const Format &format) {
    return run_head_dim(PrepareAppend{format}, nullptr);
}

cudaError_t append(const AppendParams &params, cudaStream_t stream) {
    return run_head_dim(params, stream);
}

cudaError_t dequantize(const DequantizeParams &params, cudaStream_t stream) {
    return run_head_dim(params, stream);
}

}  // namespace tarpon::kv_cache
