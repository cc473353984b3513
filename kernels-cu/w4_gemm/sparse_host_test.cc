// Tests of packing 2:4 sparse weights: what mma.sp would multiply is what went in.
#include <vector>

#include "common/layout.h"
#include "testing/random.h"
#include "testing/test.h"
#include "w4_gemm/sparse_pack.h"

namespace {

using namespace tarpon;
using namespace tarpon::testing;
using namespace tarpon::w4_gemm;
using Map = layout::MmaSparseM16N8K32;

// Codes of which each chunk of four rows keeps `kept` at random places, kept < 0: at most two.
std::vector<uint8_t> random_codes(Random &random, int64_t n, int64_t k, int kept) {
    std::vector<uint8_t> codes(static_cast<size_t>(n * k), kZeroCode);
    for (int64_t row = 0; row < k; row += kChunkRows) {
        for (int64_t column = 0; column < n; ++column) {
            const int64_t count = kept < 0 ? random.integer(0, 2) : kept;
            for (int64_t i = 0; i < count; ++i) {
                const int64_t at = row + random.integer(0, kChunkRows - 1);
                if (at < k) {
                    codes[static_cast<size_t>(at * n + column)] =
                        static_cast<uint8_t>(random.integer(0, 15));
                }
            }
        }
    }
    return codes;
}

// The code at (row, column), as the tensor core finds it: through the fragments of A and the
// metadata. Everything that is not kept is zero.
std::vector<uint8_t> as_the_tensor_core(const SparseWeights &packed, int64_t n, int64_t k) {
    const int64_t n_units = (n + kUnitN - 1) / kUnitN;
    std::vector<uint8_t> codes(static_cast<size_t>(n * k), kZeroCode);
    const int64_t units = static_cast<int64_t>(packed.qweight.size()) / kUnitWords;
    for (int64_t unit = 0; unit < units; ++unit) {
        for (int lane = 0; lane < 32; ++lane) {
            for (int tile = 0; tile < kUnitTiles; ++tile) {
                const auto word = static_cast<uint32_t>(packed.qweight[static_cast<size_t>(
                    unit * kUnitWords + kUnitTiles * lane + tile)]);
                for (int nibble = 0; nibble < 8; ++nibble) {
                    // Nibble i of a word is half i / 4 of the register of column half (i % 4) / 2
                    // and row half i % 2, which is A register columns + 2 * rows of W^T.
                    const int reg = nibble % 4 / 2 + 2 * (nibble % 2);
                    const auto [m, kept] = Map::a(lane, reg, nibble / 4);
                    const auto at = Map::metadata(m, kept / 2, tile % 2);
                    const uint32_t bits = packed.metadata[static_cast<size_t>(
                                              (unit * 32 + at.lane) * kMetadataWords + tile / 2)] >>
                                          at.shift;
                    const int first = bits & 3, second = bits >> 2 & 3;
                    CHECK(first < second, "unit %d, lane %d: places %d and %d", int(unit), lane,
                          first, second);
                    const int64_t row = unit / n_units * kSparseUnitK + 4 * (kept / 2) +
                                        (kept % 2 ? second : first);
                    const int64_t column = unit % n_units * kUnitN + 16 * tile + m;
                    const auto code = static_cast<uint8_t>(word >> (4 * nibble) & 15);
                    if (row < k && column < n) {
                        codes[static_cast<size_t>(row * n + column)] = code;
                    } else {
                        CHECK_EQ(code, kZeroCode, "padding at (%d, %d)", int(row), int(column));
                    }
                }
            }
        }
    }
    return codes;
}

TARPON_TEST(test_sparse_pack_gives_the_tensor_core_what_went_in) {
    Random random(24);
    const int64_t sizes[][2] = {{64, 32}, {16, 32},   {1, 1},    {3, 2},
                                {65, 33}, {200, 130}, {64, 4096}};
    for (const auto &[n, k] : sizes) {
        for (const int kept : {-1, 0, 1, 2}) {
            const auto codes = random_codes(random, n, k, kept);
            CHECK_EQ(find_dense_chunk(codes.data(), n, k).row, int64_t{-1}, "n %d, k %d", int(n),
                     int(k));
            const auto found = as_the_tensor_core(sparse_pack(codes.data(), n, k), n, k);
            CHECK(found == codes, "n %d, k %d, kept %d", int(n), int(k), kept);
        }
    }
}

TARPON_TEST(test_sparse_find_names_the_dense_chunk) {
    constexpr int64_t kN = 5, kK = 10;
    std::vector<uint8_t> codes(kN * kK, kZeroCode);
    for (const int64_t row : {4, 6})
        codes[static_cast<size_t>(row * kN + 3)] = 1;
    CHECK_EQ(find_dense_chunk(codes.data(), kN, kK).row, int64_t{-1});
    codes[7 * kN + 3] = 15;
    const ChunkCoord at = find_dense_chunk(codes.data(), kN, kK);
    CHECK_EQ(at.row, int64_t{4});
    CHECK_EQ(at.column, int64_t{3});
}

}  // namespace
