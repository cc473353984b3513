// What the conformance tests share.
#pragma once

#include <type_traits>

#include "common/launch.cuh"
#include "testing/device_buffer.h"

namespace tarpon::conformance {

// Runs a kernel to its end; throws, which fails the test, if it does not get there.
template <class... Params, class Grid>
void run(void (*kernel)(Params...), Grid grid, unsigned block, size_t shared_bytes,
         std::type_identity_t<Params>... args) {
    testing::check_cuda(launch(kernel, grid, block, shared_bytes, nullptr, args...), "launch");
    testing::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

}  // namespace tarpon::conformance
