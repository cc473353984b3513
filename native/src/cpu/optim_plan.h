// The optimizers on the CPU: the table of variants, and the plan that shares out the work among the
// pool's threads. The kernels are behind optim_kernel.h.
#pragma once

#include <vector>

#include "backend.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"
#include "optim.h"

namespace tarpon::cpu {

// Best first: cpu_avx512, cpu_avx2, cpu_scalar.
const std::vector<OptimVariant> &optim_variants();

void run_quantize(Isa isa, ThreadPool &pool, const BlockwiseArgs &args) noexcept;
void run_dequantize(Isa isa, ThreadPool &pool, const BlockwiseArgs &args) noexcept;

}  // namespace tarpon::cpu
