// Chooses the kernel for a size and launches it.
#include "hadamard/launch.h"

#include <algorithm>

#include "hadamard/kernel.cuh"

namespace tarpon::hadamard {
namespace {

// Blocks of a grid: enough to fill any GPU many times over; the kernels loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

int grid_for(int64_t blocks) {
    return int(std::min(blocks, kMaxBlocks));
}

template <class Config, class T>
cudaError_t run_rows(const Params<T> &params, cudaStream_t stream) {
    return launch(sm80_hadamard_row_kernel<Config, T>, grid_for(params.rows), Config::kThreads,
                  4 * Config::kExchangeElems, stream, params);
}

template <class T>
cudaError_t run_flat(const Params<T> &params, cudaStream_t stream) {
    constexpr int64_t kBlockElems = kFlatThreads * kVectorElems;
    const int64_t elems = params.rows * params.power;
    return launch(sm80_hadamard_flat_kernel<T>, grid_for((elems + kBlockElems - 1) / kBlockElems),
                  kFlatThreads, 0, stream, params);
}

template <int kBase, class T>
cudaError_t run_base(Params<T> &params, cudaStream_t stream) {
    std::copy_n(base_rows(kBase), kMaxBase, params.matrix);
    const int64_t block_rows = base_rows_per_block(kBase * params.power);
    return launch(sm80_hadamard_base_kernel<kBase, T>,
                  grid_for((params.rows + block_rows - 1) / block_rows), kBaseThreads,
                  base_shared_bytes(kBase * params.power), stream, params);
}

template <class T>
cudaError_t prepare_base_kernels(int bytes) {
    for (auto kernel : {sm80_hadamard_base_kernel<12, T>, sm80_hadamard_base_kernel<20, T>,
                        sm80_hadamard_base_kernel<28, T>}) {
        const cudaError_t status = prepare(kernel, bytes);
        if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
}

}  // namespace

cudaError_t prepare_device() {
    int device = 0, most_bytes = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess) {
        status =
            cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    const int bytes = std::min(most_bytes, kMaxBaseSharedBytes);
    if (status == cudaSuccess) status = prepare_base_kernels<float>(bytes);
    if (status == cudaSuccess) status = prepare_base_kernels<half_t>(bytes);
    if (status == cudaSuccess) status = prepare_base_kernels<bf16_t>(bytes);
    return status;
}

int shared_bytes(int base, int power) {
    return base == 1 ? 32 * 1024 : base_shared_bytes(base * power);
}

template <class T>
cudaError_t run(const T *x, T *y, int64_t rows, int base, int power, float scale,
                cudaStream_t stream) {
    const bool aligned =
        (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y)) % 16 == 0;
    Params<T> params{x, y, rows, base, power, scale, aligned, {}};
    switch (base) {
        case 12:
            return run_base<12>(params, stream);
        case 20:
            return run_base<20>(params, stream);
        case 28:
            return run_base<28>(params, stream);
    }
    switch (power) {
        case Row512::kSize:
            return run_rows<Row512>(params, stream);
        case Row1024::kSize:
            return run_rows<Row1024>(params, stream);
        case Row2048::kSize:
            return run_rows<Row2048>(params, stream);
        case Row4096::kSize:
            return run_rows<Row4096>(params, stream);
        case Row8192::kSize:
            return run_rows<Row8192>(params, stream);
        case Row16384::kSize:
            return run_rows<Row16384>(params, stream);
        case Row32768::kSize:
            return run_rows<Row32768>(params, stream);
    }
    return run_flat(params, stream);
}

template cudaError_t run(const float *, float *, int64_t, int, int, float, cudaStream_t);
template cudaError_t run(const half_t *, half_t *, int64_t, int, int, float, cudaStream_t);
template cudaError_t run(const bf16_t *, bf16_t *, int64_t, int, int, float, cudaStream_t);

}  // namespace tarpon::hadamard
