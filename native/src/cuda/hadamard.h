// The Hadamard transform on a GPU or the simulator; called by backend.cc with the device current.
#pragma once

#include "backend.h"

namespace tarpon::gpu {

// Cold, once a device; throws tarpon::Error.
void prepare_hadamard();

// max_shared_bytes: what a block of this device may have (sharedMemPerBlockOptin).
tarpon_status run_hadamard(const HadamardArgs &args, size_t max_shared_bytes) noexcept;

}  // namespace tarpon::gpu
