// Controls and observations of the simulator, for tests. The environment sets the defaults:
//   TARPON_SIM_SCHEDULE    forward (default), reverse, or a number that seeds random schedules
//   TARPON_SIM_ARCH        80 (default), 86, 89, 90, 100 or 120: limits of the simulated device
//   TARPON_SIM_PROCESSORS  number of multiprocessors, 6 by default
#pragma once

#include <cstdint>
#include <string>

namespace tarpon::sim {

// In which order threads, warps and blocks run where a kernel leaves it open.
struct Schedule {
    enum class Order { kForward, kReverse, kRandom };
    Order order = Order::kForward;
    uint64_t seed = 0;
};
void set_schedule(Schedule schedule);
Schedule schedule();

// Throw std::invalid_argument, with what is possible, for anything else.
void set_arch(int arch);
void set_processor_count(int processors);

// What the last failed launch did wrong; empty if none failed. Valid until the next failure or
// reset. cudaGetErrorString(cudaErrorLaunchFailure) ends with the same text.
const std::string &last_report();

// Forgets the sticky error of a failed launch. (On a GPU only the end of the process does.)
void reset();

// Allocations of cudaMalloc, cudaMallocHost and their variants that have not been freed.
int64_t live_allocations();

// What kernels have read and written of an allocation since it was made, thread by thread; zeros
// for an address that is in none.
struct Traffic {
    uint64_t bytes_read = 0, bytes_written = 0;
};
Traffic traffic(const void *address);

}  // namespace tarpon::sim
