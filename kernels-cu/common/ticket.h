// Tickets by which blocks of one launch recognise each other's flags in a workspace that nobody has
// cleared. Host only, beside Ticket itself.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace tarpon {

struct alignas(8) Ticket {
    int32_t low, high;
};

// A number that no other launch of this process gets, mixed (splitmix64) so that it does not look
// like anything that arbitrary workspace contents are likely to hold.
inline Ticket new_ticket() {
    static std::atomic<uint64_t> count{0};
    uint64_t z = (count.fetch_add(1, std::memory_order_relaxed) + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return std::bit_cast<Ticket>(z ^ (z >> 31));
}

}  // namespace tarpon
