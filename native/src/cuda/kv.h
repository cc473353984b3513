// The KV cache on a GPU or the simulator; called by backend.cc.
#pragma once

#include <memory>

#include "backend.h"

namespace tarpon::gpu {

// Throws tarpon::Error; UNSUPPORTED for mode rotatekv.
std::unique_ptr<KvPlan> create_kv_plan(Device &device, const KvProblem &problem);

}  // namespace tarpon::gpu
