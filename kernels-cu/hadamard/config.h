// Which kernel transforms which size, and how: pure, testable without a GPU.
#pragma once

#include "common/layout.h"
#include "hadamard/matrix.h"

namespace tarpon::hadamard {

inline constexpr int kVectorElems = 8;                     // consecutive elements a thread loads
inline constexpr int kWarpChunkElems = 32 * kVectorElems;  // what a warp loads at once: 256
inline constexpr int kFlatThreads = 256;

// A row of 2^kLog2Size elements by one block: a thread holds kElems of them, a warp kElems * 32
// consecutive ones. The kWarps warps meet in one exchange through shared memory, cut into kRounds
// rounds so that it never needs more than 32 KiB, which every GPU gives without asking.
template <int kLog2Size_, int kElems_, int kRounds_>
struct RowConfig {
    static constexpr int kLog2Size = kLog2Size_;
    static constexpr int kSize = 1 << kLog2Size;
    static constexpr int kElems = kElems_;
    static constexpr int kChunks = kElems / kVectorElems;
    static constexpr int kWarps = kSize / (32 * kElems);
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kWarpElems = 32 * kElems;
    static constexpr int kRounds = kRounds_;
    static constexpr int kExchangeElems = kWarps > 1 ? kSize / kRounds : 0;
    // After the exchange a thread holds this many consecutive elements of each warp.
    static constexpr int kRunElems = kElems / kWarps;

    static_assert(kWarps >= 1 && kThreads <= 1024);
    static_assert(kRunElems * kWarps == kElems, "a thread must hold elements of every warp");
    static_assert(kRounds == 1 || kRounds == kChunks, "a round is everything or one chunk a warp");
    static_assert(kRounds == 1 || kWarps % kRounds == 0);
    static_assert(kExchangeElems * 4 <= 32 * 1024);
};

using Row512 = RowConfig<9, 16, 1>;
using Row1024 = RowConfig<10, 32, 1>;
using Row2048 = RowConfig<11, 16, 1>;
using Row4096 = RowConfig<12, 16, 1>;
using Row8192 = RowConfig<13, 16, 1>;
using Row16384 = RowConfig<14, 32, 4>;
using Row32768 = RowConfig<15, 64, 8>;  // 32 elements and 1024 threads would spill

// Sizes with a base matrix go through shared memory, with one float of padding for each 32.
inline constexpr int kBaseThreads = 256;
inline constexpr int kBaseBlockElems = 2048;  // rows shorter than this share a block

TARPON_LAYOUT int base_rows_per_block(int n) {
    return n >= kBaseBlockElems ? 1 : kBaseBlockElems / n;
}
TARPON_LAYOUT int padded_index(int i) {
    return i + i / 32;
}
TARPON_LAYOUT int base_shared_bytes(int n) {
    return 4 * (padded_index(base_rows_per_block(n) * n - 1) + 1);
}
inline constexpr int kMaxBaseSharedBytes = base_shared_bytes(28 * 1024);

}  // namespace tarpon::hadamard
