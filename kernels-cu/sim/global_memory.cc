// Allocations of the simulated device; see global_memory.h.
#include "sim/global_memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

namespace tarpon::sim {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kRedZoneBytes = 256;
constexpr size_t kNullPageBytes = 1 << 16;  // no mapping is that low
constexpr unsigned char kRedZoneByte = 0xa7;

bool is_intact(const unsigned char *zone) {
    return std::all_of(zone, zone + kRedZoneBytes,
                       [](unsigned char byte) { return byte == kRedZoneByte; });
}

}  // namespace

GlobalMemory &global_memory() {
    static GlobalMemory instance;
    return instance;
}

void *GlobalMemory::allocate(size_t bytes, bool is_host) {
    Allocation fresh{};
    fresh.bytes = bytes;
    fresh.storage.reset(new (std::nothrow) unsigned char[bytes + 2 * kRedZoneBytes + kAlignment]);
    if (!fresh.storage) return nullptr;
    if (!is_host) {
        fresh.written.reset(new (std::nothrow) unsigned char[bytes]());
        if (!fresh.written) return nullptr;
    }
    const auto start = uintptr_t(fresh.storage.get()) + kRedZoneBytes;
    fresh.data =
        fresh.storage.get() + kRedZoneBytes + (kAlignment - start % kAlignment) % kAlignment;
    std::memset(fresh.data - kRedZoneBytes, kRedZoneByte, kRedZoneBytes);
    std::memset(fresh.data, kPoisonByte, bytes);
    std::memset(fresh.data + bytes, kRedZoneByte, kRedZoneBytes);
    void *address = fresh.data;
    total_bytes_ += bytes;
    allocations_.emplace(uintptr_t(address), std::move(fresh));
    return address;
}

bool GlobalMemory::free(void *address) {
    auto found = allocations_.find(uintptr_t(address));
    if (found == allocations_.end()) return false;
    total_bytes_ -= found->second.bytes;
    std::fill(std::begin(recent_), std::end(recent_), nullptr);
    allocations_.erase(found);
    return true;
}

Allocation *GlobalMemory::find_slow(const void *pointer, size_t length) {
    auto next = allocations_.upper_bound(uintptr_t(pointer));
    if (next == allocations_.begin()) return nullptr;
    Allocation *candidate = &std::prev(next)->second;
    if (!candidate->contains(pointer, length)) return nullptr;
    recent_[next_recent_++ % kRecent] = candidate;
    return candidate;
}

std::string GlobalMemory::describe(const void *pointer) const {
    char text[160];
    auto next = allocations_.upper_bound(uintptr_t(pointer));
    if (uintptr_t(pointer) < kNullPageBytes) {
        std::snprintf(text, sizeof text, "the address is null, or %zu bytes from it",
                      size_t(uintptr_t(pointer)));
        return text;
    }
    if (next != allocations_.begin()) {
        const Allocation &before = std::prev(next)->second;
        const size_t offset = uintptr_t(pointer) - uintptr_t(before.data);
        if (offset < before.bytes + kRedZoneBytes) {
            std::snprintf(text, sizeof text,
                          "the address is byte %zu of an allocation of %zu bytes", offset,
                          before.bytes);
            return text;
        }
    }
    if (next != allocations_.end() && next->first - uintptr_t(pointer) <= kRedZoneBytes) {
        std::snprintf(text, sizeof text,
                      "the address is %zu bytes before an allocation of %zu bytes",
                      size_t(next->first - uintptr_t(pointer)), next->second.bytes);
        return text;
    }
    return "the address is in no allocation of the device (freed, or never one)";
}

std::string GlobalMemory::damaged_red_zone() const {
    for (const auto &[address, allocation] : allocations_) {
        const bool before = is_intact(allocation.data - kRedZoneBytes);
        if (before && is_intact(allocation.data + allocation.bytes)) continue;
        char text[160];
        std::snprintf(text, sizeof text,
                      "the bytes %s an allocation of %zu bytes were overwritten, by a plain "
                      "dereference or a copy",
                      before ? "behind" : "before", allocation.bytes);
        return text;
    }
    return {};
}

void GlobalMemory::mark_written(const void *pointer, size_t length) {
    Allocation *allocation = find(pointer, length);
    if (!allocation || !allocation->written) return;
    std::memset(&allocation->written[uintptr_t(pointer) - uintptr_t(allocation->data)], 1, length);
}

void GlobalMemory::copy_written(const void *dst, const void *src, size_t length) {
    Allocation *to = find(dst, length);
    if (!to || !to->written) return;
    Allocation *from = find(src, length);
    if (!from || !from->written) return mark_written(dst, length);
    std::memmove(&to->written[uintptr_t(dst) - uintptr_t(to->data)],
                 &from->written[uintptr_t(src) - uintptr_t(from->data)], length);
}

}  // namespace tarpon::sim
