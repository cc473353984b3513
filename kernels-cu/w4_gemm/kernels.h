// The table of kernels between launch.cu and the instances_*.cu that compile them, which do not
// include the cost model: a change of it compiles no kernel again.
#pragma once

#include <cstddef>

#include "w4_gemm/config.h"

namespace tarpon::w4_gemm {

struct Params;

struct Kernel {
    void (*function)(Params);  // null: there is none for this format and tile
    unsigned threads;
    size_t shared_bytes;
};

template <class Format>
const Kernel &kernel(Activation activation, bool grouped, int tile);

}  // namespace tarpon::w4_gemm
