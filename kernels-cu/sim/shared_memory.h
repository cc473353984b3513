// One block's shared memory with everything needed to judge an access: whether the bytes arrived,
// and whether a barrier lies between this access and earlier ones of other threads.
//
// Races are found by happens-before, not by luck: every warp has a clock that a barrier advances,
// and knows how far it has seen the other warps' clocks (a vector clock). An access of warp w at
// its time t is before one of warp v if v has seen a time of w beyond t. Lanes of one warp are in
// order only across a sync_warp or a barrier, as the PTX memory model has it. Words of 4 bytes are
// tracked with the bytes touched, so neighbours that write halves of a word do not disturb each
// other; of several such writers only the last is remembered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <vector>

namespace tarpon::sim {

inline constexpr int kMaxWarps = 32;
// Stands for all lanes of a warp together (ldmatrix) and for several that read a word.
inline constexpr int kManyLanes = 32;

struct Clock {
    uint32_t seen[kMaxWarps];  // seen[own warp] is the own time
};

struct Access {
    int warp;
    int lane;
    const Clock *clock;
    std::source_location where;
};

// What is wrong with an access; kind is kNone if nothing is.
struct SharedFault {
    enum Kind { kNone, kOutside, kMisaligned, kUninitialised, kInFlight, kWriteRace, kReadRace };
    Kind kind = kNone;
    size_t offset = 0;           // of the byte or word at fault
    int other_warp = 0;          // races: who touched it before
    int other_lane = 0;          // kManyLanes if not one
    std::source_location other;  // kWriteRace: where it was written
};

class SharedMemory {
  public:
    // Poisons everything for a new block.
    void reset(size_t bytes, int warps);

    unsigned char *data() { return data_; }
    size_t bytes() const { return bytes_; }
    bool contains(const void *pointer, size_t length) const {
        const auto offset = uintptr_t(pointer) - uintptr_t(data_);
        return offset <= bytes_ && length <= bytes_ - offset;
    }

    SharedFault load(const void *pointer, size_t length, const Access &access);
    SharedFault store(const void *pointer, size_t length, const Access &access);
    // An asynchronous copy starts: the bytes belong to it, and are poison, until it arrives.
    SharedFault begin_copy(void *pointer, size_t length, const Access &access);
    void finish_copy(void *pointer, const void *source, size_t source_bytes, size_t length,
                     const Access &access);

    // Forgets all accesses; right when a barrier has put all of them in the past.
    void forget_accesses();

  private:
    enum State : unsigned char { kEmpty = 0, kValid = 1, kCopying = 2 };

    struct Writer {
        uint32_t time = 0;  // 0: nobody wrote
        uint16_t thread = 0;
        uint16_t byte_mask = 0;
        std::source_location where;
    };

    SharedFault write(size_t offset, size_t length, const Access &access, State state);
    SharedFault find_state_fault(size_t offset, size_t length) const;

    std::vector<unsigned char> storage_;
    unsigned char *data_ = nullptr;
    size_t bytes_ = 0;
    int warps_ = 0;
    std::vector<unsigned char> state_;
    std::vector<Writer> writers_;    // per word
    std::vector<uint32_t> readers_;  // per word and warp: time << 10 | lane << 4 | byte mask
};

// The last time of a clock. `readers_` has room for 2^22; this is small enough for a test to get there.
inline constexpr uint32_t kMaxTime = (1u << 18) - 1;

}  // namespace tarpon::sim
