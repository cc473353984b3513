// The simulated device memory: every allocation between red zones, with a byte of state for each
// byte of it, so that kernels' accesses are checked for bounds, lifetime and initialisation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "sim/control.h"

namespace tarpon::sim {

inline constexpr unsigned char kPoisonByte = 0xff;  // NaN in every floating-point format we use

struct Allocation {
    unsigned char *data;
    size_t bytes;
    // 1 where something was written; null for host memory, whose writes are not seen.
    std::unique_ptr<unsigned char[]> written;
    std::unique_ptr<unsigned char[]> storage;
    Traffic traffic{};  // of kernels

    bool contains(const void *pointer, size_t length) const {
        const auto offset = uintptr_t(pointer) - uintptr_t(data);
        return offset <= bytes && length <= bytes - offset;
    }
};

class GlobalMemory {
  public:
    // Aligned to 256 bytes. Null if the host has no memory left.
    void *allocate(size_t bytes, bool is_host);
    // False if `address` is no start of an allocation. A damaged red zone is reported by
    // damaged_red_zone() before that.
    bool free(void *address);

    // The allocation that holds [pointer, pointer + length), or null. Inlined for the last few.
    Allocation *find(const void *pointer, size_t length) {
        for (Allocation *recent : recent_) {
            if (recent && recent->contains(pointer, length)) return recent;
        }
        return find_slow(pointer, length);
    }
    // Where `pointer` is in relation to the allocations, for reports.
    std::string describe(const void *pointer) const;
    // A line about an allocation whose surroundings were written past the checks; else empty.
    std::string damaged_red_zone() const;

    // What copies and fills by the host do to the state of [pointer, pointer + length); nothing where
    // that is not device memory.
    void mark_written(const void *pointer, size_t length);
    void copy_written(const void *dst, const void *src, size_t length);

    int64_t count() const { return int64_t(allocations_.size()); }
    size_t total_bytes() const { return total_bytes_; }

  private:
    Allocation *find_slow(const void *pointer, size_t length);

    static constexpr int kRecent = 4;
    std::map<uintptr_t, Allocation> allocations_;  // by address of the data
    Allocation *recent_[kRecent] = {};
    int next_recent_ = 0;
    size_t total_bytes_ = 0;
};

GlobalMemory &global_memory();

}  // namespace tarpon::sim
