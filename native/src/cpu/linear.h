// The linear layer on the CPU: the table of variants (linear.cc), and the plan that packs the
// weights and shares out the work (linear_plan.cc). The kernels are behind linear_kernel.h.
#pragma once

#include <memory>
#include <vector>

#include "backend.h"

namespace tarpon::cpu {

class ThreadPool;
struct LinearKernel;

// Best first. A device serves those that its instruction set includes.
const std::vector<LinearVariant> &linear_variants();

// A plan that runs `kernel`, which must be for the problem's weight type and dtype and outlive it.
std::unique_ptr<LinearPlan> make_linear_plan(ThreadPool &pool, const LinearKernel &kernel,
                                             const LinearProblem &problem,
                                             const LinearWeights &weights);

}  // namespace tarpon::cpu
