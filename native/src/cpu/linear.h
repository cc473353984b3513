// The linear layer on the CPU: the table of variants, and the plan that packs the weights and
// shares out the work. The kernels are behind linear_kernel.h.
#pragma once

#include <vector>

#include "backend.h"

namespace tarpon::cpu {

// Best first: cpu_avx512_bf16, cpu_avx512, cpu_avx2, cpu_scalar. A device serves those that its
// instruction set includes.
const std::vector<LinearVariant> &linear_variants();

}  // namespace tarpon::cpu
