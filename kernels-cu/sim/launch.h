// The simulator's side of common/launch.cuh: turns a kernel and its arguments into something that
// can be called once per thread and replayed by a graph.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <source_location>

#include "sim/device_ops.h"

namespace tarpon::sim {

// The extent of a grid, with the source line that launches it.
struct Grid {
    dim3 extent;
    std::source_location where;

    Grid(dim3 grid, std::source_location from = std::source_location::current())
        : extent(grid), where(from) {}
    Grid(unsigned blocks, std::source_location from = std::source_location::current())
        : extent(blocks), where(from) {}
    Grid(int blocks, std::source_location from = std::source_location::current())
        : extent(unsigned(blocks)), where(from) {}
};

struct Launch {
    const void *kernel;
    std::function<void()> thread_body;
    dim3 grid;
    unsigned block;
    size_t shared_bytes;
    std::source_location where;
};

// Runs the launch, or records it if the stream is being captured.
cudaError_t submit(Launch launch, cudaStream_t stream);

template <class... Params>
cudaError_t launch(void (*kernel)(Params...), Grid grid, unsigned block, size_t shared_bytes,
                   cudaStream_t stream, std::type_identity_t<Params>... args) {
    return submit({reinterpret_cast<const void *>(kernel), [=] { kernel(args...); }, grid.extent,
                   block, shared_bytes, grid.where},
                  stream);
}

}  // namespace tarpon::sim
