// What this machine can do at most, measured: the roofs that the CPU benchmarks compare with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/thread_pool.h"

namespace tarpon::bench {

// Now, on the benchmarks' clock: wall time, or after use_processor_time() the time that this
// process has been running, which on a loaded machine tells what one thread does when it runs.
double seconds();
void use_processor_time();

// The instructions whose peak is measured: from register to register, and of tile products with
// their operands coming from L2, where kernels have them.
enum class Peak { kFmaF32, kDotBf16, kDotInt8, kTileBf16, kTileInt8 };
inline constexpr int kPeakCount = 5;

const char *peak_name(Peak peak);
bool peak_available(Peak peak);

// Reads memory and counts multiply-adds on all threads of a pool. Each call is one short sample
// (about a millisecond), so that samples can be interleaved with those of a kernel.
class Roofs {
  public:
    explicit Roofs(cpu::ThreadPool &pool);
    ~Roofs();
    Roofs(const Roofs &) = delete;
    Roofs &operator=(const Roofs &) = delete;

    // Bytes per second of reading memory that is in no cache.
    double read_sample();
    // Operations (two a multiply-add) per second.
    double peak_sample(Peak peak);

  private:
    cpu::ThreadPool &pool_;
    char *memory_;
    size_t position_ = 0;  // samples walk through the buffer, so that each finds it cold
};

}  // namespace tarpon::bench
