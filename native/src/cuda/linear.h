// The linear family on GPUs, real and simulated: plans on top of kernels-cu/w4_gemm.
#pragma once

#include <vector>

#include "backend.h"

namespace tarpon::gpu {

// In the order in which they are preferred.
const std::vector<LinearVariant> &linear_variants();

}  // namespace tarpon::gpu
