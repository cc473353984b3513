// Launching kernels, and the shared memory they get; the same on a GPU and on the simulator.
//
//     struct SharedStorage { ... };                       // trivial, one per kernel
//     TARPON_KERNEL void example_kernel(Params params) {
//         auto &storage = shared_storage<SharedStorage>();
//         ...
//     }
//     prepare(example_kernel, sizeof(SharedStorage));     // cold: once, when a plan is created
//     launch(example_kernel, grid, block, sizeof(SharedStorage), stream, params);   // hot
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

#include "common/types.h"

#ifndef __CUDACC__
#include "sim/launch.h"
#endif

namespace tarpon {

// What a block may use without asking (prepare asks for more).
inline constexpr size_t kDefaultSharedBytes = 48 * 1024;

// The block's dynamic shared memory; its contents are undefined at the start (NaN on sim).
template <class Storage>
TARPON_DEVICE Storage &shared_storage() {
    static_assert(std::is_trivial_v<Storage>);
    static_assert(alignof(Storage) <= 128);
#ifdef __CUDACC__
    extern __shared__ __align__(128) unsigned char tarpon_shared_memory[];
    return *reinterpret_cast<Storage *>(tarpon_shared_memory);
#else
    return *static_cast<Storage *>(sim::shared_memory(sizeof(Storage)));
#endif
}

// Lets a kernel use `shared_bytes` of dynamic shared memory; needed once a device above 48 KiB.
template <class... Params>
cudaError_t prepare(void (*kernel)(Params...), size_t shared_bytes) {
    if (shared_bytes <= kDefaultSharedBytes) return cudaSuccess;
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
}

#ifdef __CUDACC__
template <class... Params>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, unsigned block, size_t shared_bytes,
                   cudaStream_t stream, std::type_identity_t<Params>... args) {
    void *addresses[] = {static_cast<void *>(&args)..., nullptr};
    return cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, dim3(block), addresses,
                            shared_bytes, stream);
}
#else
// sim::Grid converts from dim3 and from a number, and remembers the line of the launch.
template <class... Params>
cudaError_t launch(void (*kernel)(Params...), sim::Grid grid, unsigned block, size_t shared_bytes,
                   cudaStream_t stream, std::type_identity_t<Params>... args) {
    return sim::launch(kernel, grid, block, shared_bytes, stream, args...);
}
#endif

}  // namespace tarpon
