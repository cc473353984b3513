// Loops of constant length without a loop: arrays of vectors that are indexed in them stay in
// registers, which compilers do not promise of a loop that they unroll themselves.
#pragma once

#include <type_traits>
#include <utility>

// On functions and lambdas between a loop over blocks and its vectors. Not with AddressSanitizer: its
// checks of all of it in one function took the compiler eight minutes.
#ifdef __SANITIZE_ADDRESS__
#define TARPON_INLINE
#else
#define TARPON_INLINE __attribute__((always_inline))
#endif

namespace tarpon::cpu {
namespace {  // compiled for another instruction set in every file that includes it

// Calls body(i) with i = 0 .. kCount - 1, as constants. Long loops stay loops.
template <int kCount, class Body>
TARPON_INLINE inline void repeat(const Body &body) {
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
TARPON_INLINE inline void for_each_slot(const Body &body) {
    repeat<3>([&](auto slot) TARPON_INLINE {
        if constexpr (kMask >> slot & 1) body(slot);
    });
}

}  // namespace
}  // namespace tarpon::cpu
