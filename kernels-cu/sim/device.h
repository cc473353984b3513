// The simulated device: limits of the architectures Tarpon builds for, from the tables of the CUDA
// programming guide ("Compute Capabilities"), and how many blocks fit.
#pragma once

#include <cuda_runtime.h>

#include "sim/control.h"

namespace tarpon::sim {

struct Arch {
    int number;  // 10 * major + minor
    size_t shared_per_processor;
    size_t shared_per_block_optin;
    int threads_per_processor;
    int blocks_per_processor;
};

inline constexpr int kMaxBlockThreads = 1024;
inline constexpr size_t kDefaultSharedLimit = 48 * 1024;
inline constexpr size_t kReservedSharedBytes = 1024;  // per block, by the system

// What the simulated device is at present. Throws std::invalid_argument if the environment names
// something that does not exist.
const Arch &arch();
int processor_count();

// Blocks of one kernel that a multiprocessor holds at once.
int blocks_per_processor(int block_threads, size_t shared_bytes);

cudaDeviceProp device_properties();

}  // namespace tarpon::sim
