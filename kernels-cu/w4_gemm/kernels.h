// The table of kernels between launch.cu and the instances_*.cu that compile them.
#pragma once

#include "w4_gemm/launch.h"

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
