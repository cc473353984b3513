// The Hadamard transform on the CPU; called by device.cc.
#pragma once

#include "backend.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"

namespace tarpon::cpu {

void run_hadamard(Isa isa, ThreadPool &pool, const HadamardArgs &args) noexcept;

}  // namespace tarpon::cpu
