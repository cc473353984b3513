// Loops of constant length without a loop: arrays of vectors that are indexed in them stay in
// registers, which compilers do not promise of a loop that they unroll themselves.
#pragma once

#include <type_traits>
#include <utility>

// On a lambda.
#define TARPON_INLINE __attribute__((always_inline))

namespace tarpon::cpu {
namespace {  // compiled for another instruction set in every file that includes it

// Calls body(i) with i = 0 .. kCount - 1, as constants. Long loops stay loops.
template <int kCount, class Body>
[[gnu::always_inline]] inline void repeat(const Body &body) {
    if constexpr (kCount <= 8) {
        [&]<int... kIndices>(std::integer_sequence<int, kIndices...>) TARPON_INLINE {
            (body(std::integral_constant<int, kIndices>{}), ...);
        }
        (std::make_integer_sequence<int, kCount>{});
    } else {
        for (int i = 0; i < kCount; ++i)
            body(i);
    }
}

// Calls body(slot) for every bit of kMask, with the slot as a constant.
template <int kMask, class Body>
[[gnu::always_inline]] inline void for_each_slot(const Body &body) {
    repeat<3>([&](auto slot) TARPON_INLINE {
        if constexpr (kMask >> slot & 1) body(slot);
    });
}

}  // namespace
}  // namespace tarpon::cpu
