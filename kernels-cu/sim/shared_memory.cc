// Judging accesses to shared memory; shared_memory.h has the idea.
#include "sim/shared_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "sim/global_memory.h"

namespace tarpon::sim {
namespace {

constexpr size_t kAlignment = 1024;
constexpr size_t kWordBytes = 4;
constexpr uint64_t kEightValid = 0x0101010101010101u;

uint32_t pack_reader(uint32_t time, uint32_t lane, uint32_t byte_mask) {
    return time << 10 | lane << 4 | byte_mask;
}
uint32_t reader_time(uint32_t entry) {
    return entry >> 10;
}
uint32_t reader_lane(uint32_t entry) {
    return entry >> 4 & 63;
}
uint32_t reader_mask(uint32_t entry) {
    return entry & 15;
}

// The bytes of word `word` that [offset, offset + length) touches.
uint32_t touched(size_t word, size_t offset, size_t length) {
    if (length >= kWordBytes) return 15;  // accesses are aligned to their length
    const size_t begin = word * kWordBytes;
    const size_t low = std::max(offset, begin) - begin;
    const size_t high = std::min(offset + length, begin + kWordBytes) - begin;
    return ((1u << high) - 1) & ~((1u << low) - 1);
}

int thread_of(const Access &access) {
    constexpr int kNobody = -1;  // all lanes at once are no one's own
    return access.lane == kManyLanes ? kNobody : access.warp * 32 + access.lane;
}

}  // namespace

void SharedMemory::reset(size_t bytes, int warps) {
    storage_.resize(bytes + kAlignment);
    const auto start = uintptr_t(storage_.data());
    data_ = storage_.data() + (kAlignment - start % kAlignment) % kAlignment;
    bytes_ = bytes;
    warps_ = warps;
    std::memset(data_, kPoisonByte, bytes);
    state_.assign(bytes, kEmpty);
    forget_accesses();
}

void SharedMemory::forget_accesses() {
    const size_t words = (bytes_ + kWordBytes - 1) / kWordBytes;
    writers_.assign(words, {});
    readers_.assign(words * warps_, 0);
}

SharedFault SharedMemory::find_state_fault(size_t offset, size_t length) const {
    for (size_t i = offset; i < offset + length; ++i) {
        if (state_[i] == kCopying) return {SharedFault::kInFlight, i, 0, 0, {}};
        if (state_[i] == kEmpty) return {SharedFault::kUninitialised, i, 0, 0, {}};
    }
    return {};
}

SharedFault SharedMemory::load(const void *pointer, size_t length, const Access &access) {
    const size_t offset = uintptr_t(pointer) - uintptr_t(data_);
    if (!contains(pointer, length)) return {SharedFault::kOutside, offset, 0, 0, {}};
    if (offset % length) return {SharedFault::kMisaligned, offset, 0, 0, {}};

    bool valid;
    if (length >= 8) {
        uint64_t first, last;
        std::memcpy(&first, &state_[offset], 8);
        std::memcpy(&last, &state_[offset + length - 8], 8);
        valid = first == kEightValid && last == kEightValid;
    } else {
        valid = std::all_of(&state_[offset], &state_[offset] + length,
                            [](unsigned char state) { return state == kValid; });
    }
    if (!valid) return find_state_fault(offset, length);

    const int self = thread_of(access);
    const uint32_t now = access.clock->seen[access.warp];
    for (size_t word = offset / kWordBytes; word * kWordBytes < offset + length; ++word) {
        const uint32_t mask = touched(word, offset, length);
        const Writer &writer = writers_[word];
        if (writer.time >= access.clock->seen[writer.thread / 32] && writer.thread != self &&
            writer.byte_mask & mask) {
            return {SharedFault::kWriteRace, word * kWordBytes, writer.thread / 32,
                    writer.thread % 32, writer.where};
        }
        uint32_t &reader = readers_[word * warps_ + access.warp];
        const bool same_lane = reader_lane(reader) == uint32_t(access.lane);
        if (reader_time(reader) != now || (!same_lane && !(reader_mask(reader) & mask))) {
            reader = pack_reader(now, access.lane, mask);
        } else {
            reader =
                pack_reader(now, same_lane ? access.lane : kManyLanes, reader_mask(reader) | mask);
        }
    }
    return {};
}

SharedFault SharedMemory::write(size_t offset, size_t length, const Access &access, State state) {
    const int self = thread_of(access);
    const uint32_t now = access.clock->seen[access.warp];
    for (size_t word = offset / kWordBytes; word * kWordBytes < offset + length; ++word) {
        const uint32_t mask = touched(word, offset, length);
        Writer &writer = writers_[word];
        if (writer.time >= access.clock->seen[writer.thread / 32] && writer.thread != self &&
            writer.byte_mask & mask) {
            return {SharedFault::kWriteRace, word * kWordBytes, writer.thread / 32,
                    writer.thread % 32, writer.where};
        }
        for (int warp = 0; warp < warps_; ++warp) {
            const uint32_t reader = readers_[word * warps_ + warp];
            if (reader_time(reader) < access.clock->seen[warp] || !(reader_mask(reader) & mask)) {
                continue;
            }
            if (warp == access.warp && reader_lane(reader) == uint32_t(access.lane)) continue;
            return {SharedFault::kReadRace, word * kWordBytes, warp, int(reader_lane(reader)), {}};
        }
        const bool again = writer.time == now && writer.thread == self;
        writer = {now, uint16_t(self), uint16_t(again ? writer.byte_mask | mask : mask),
                  access.where};
    }
    std::memset(&state_[offset], state, length);
    return {};
}

SharedFault SharedMemory::store(const void *pointer, size_t length, const Access &access) {
    const size_t offset = uintptr_t(pointer) - uintptr_t(data_);
    if (!contains(pointer, length)) return {SharedFault::kOutside, offset, 0, 0, {}};
    if (offset % length) return {SharedFault::kMisaligned, offset, 0, 0, {}};
    const auto *begin = &state_[offset];
    if (const auto *copying = std::find(begin, begin + length, kCopying);
        copying != begin + length) {
        return {SharedFault::kInFlight, offset + size_t(copying - begin), 0, 0, {}};
    }
    return write(offset, length, access, kValid);
}

SharedFault SharedMemory::begin_copy(void *pointer, size_t length, const Access &access) {
    SharedFault fault = store(pointer, length, access);
    if (fault.kind != SharedFault::kNone) return fault;
    std::memset(pointer, kPoisonByte, length);
    std::memset(&state_[uintptr_t(pointer) - uintptr_t(data_)], kCopying, length);
    return {};
}

void SharedMemory::finish_copy(void *pointer, const void *source, size_t source_bytes,
                               size_t length, const Access &access) {
    auto *destination = static_cast<unsigned char *>(pointer);
    if (source_bytes) std::memcpy(destination, source, source_bytes);
    std::memset(destination + source_bytes, 0, length - source_bytes);
    // The copy owned the bytes, so nobody else has touched them; only the time moves on.
    const size_t offset = uintptr_t(pointer) - uintptr_t(data_);
    const uint32_t now = access.clock->seen[access.warp];
    for (size_t word = offset / kWordBytes; word * kWordBytes < offset + length; ++word) {
        writers_[word] = {now, uint16_t(thread_of(access)), 15, access.where};
    }
    std::memset(&state_[offset], kValid, length);
}

}  // namespace tarpon::sim
