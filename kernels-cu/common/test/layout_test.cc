// layout.h against the figures of the PTX manual. Run alone: layout_test.
#include "common/layout.h"

#include <set>

#include "common/test/ptx_figures.h"
#include "testing/test.h"

namespace tarpon::layout {
namespace {

using figures::parse;

TARPON_TEST(test_layout_mma_m16n8k16_a) {
    for (int m = 0; m < 16; ++m) {
        for (int k = 0; k < 16; ++k) {
            const auto [thread, reg] = parse(figures::kMmaA[m], k / 2);
            const Coord at = MmaM16N8K16::a(thread, reg, k % 2);
            CHECK(at == (Coord{m, k}), "A(%d, %d) held by T%d.%d: map says (%d, %d)", m, k, thread,
                  reg, at.row, at.col);
        }
    }
}

TARPON_TEST(test_layout_mma_m16n8k16_b) {
    for (int k = 0; k < 16; ++k) {
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = parse(figures::kMmaB[k / 2], n);
            const Coord at = MmaM16N8K16::b(thread, reg, k % 2);
            CHECK(at == (Coord{k, n}), "B(%d, %d) held by T%d.%d: map says (%d, %d)", k, n, thread,
                  reg, at.row, at.col);
        }
    }
}

TARPON_TEST(test_layout_mma_m16n8k16_c) {
    for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = parse(figures::kMmaC[m], n);
            const Coord at = MmaM16N8K16::c(thread, reg);
            CHECK(at == (Coord{m, n}), "C(%d, %d) held by T%d.%d: map says (%d, %d)", m, n, thread,
                  reg, at.row, at.col);
        }
    }
}

TARPON_TEST(test_layout_mma_m16n8k32_s8) {
    for (int k = 0; k < 32; ++k) {
        for (int m = 0; m < 16; ++m) {
            const auto [thread, reg] = parse(figures::kMmaA[m], k / 4);
            CHECK(MmaM16N8K32S8::a(thread, reg, k % 4) == (Coord{m, k}), "A(%d, %d)", m, k);
        }
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = parse(figures::kMmaB[k / 4], n);
            CHECK(MmaM16N8K32S8::b(thread, reg, k % 4) == (Coord{k, n}), "B(%d, %d)", k, n);
        }
    }
}

TARPON_TEST(test_layout_mma_sp_m16n8k32) {
    using Map = MmaSparseM16N8K32;
    for (int m = 0; m < 16; ++m) {
        for (int kept = 0; kept < 16; ++kept) {
            const auto [thread, reg] = parse(figures::kMmaA[m], kept / 2);
            CHECK(Map::a(thread, reg, kept % 2) == (Coord{m, kept}), "A(%d, %d)", m, kept);
        }
        for (int selector = 0; selector < 2; ++selector) {
            for (int chunk = 0; chunk < 8; ++chunk) {
                const auto [thread, bit] =
                    parse(figures::kMmaSparseMetadata[m], 2 * selector + chunk / 4);
                const auto at = Map::metadata(m, chunk, selector);
                CHECK_EQ(at.lane, thread, "row %d chunk %d selector %d", m, chunk, selector);
                CHECK_EQ(at.shift, bit + 4 * (chunk % 4), "row %d chunk %d", m, chunk);
            }
        }
    }
    for (int k = 0; k < 32; ++k) {
        for (int n = 0; n < 8; ++n) {
            const auto [thread, reg] = parse(figures::kMmaSparseB[k / 2], n);
            CHECK(Map::b(thread, reg, k % 2) == (Coord{k, n}), "B(%d, %d)", k, n);
        }
    }
}

TARPON_TEST(test_layout_ldmatrix) {
    for (int r = 0; r < 8; ++r) {
        for (int c = 0; c < 8; ++c) {
            const int thread = parse(figures::kLdmatrix[r], c / 2).thread;
            CHECK(Ldmatrix::element(thread, c % 2) == (Coord{r, c}), "(%d, %d)", r, c);
            CHECK(Ldmatrix::element_trans(thread, c % 2) == (Coord{c, r}), "(%d, %d)", r, c);
        }
    }
    for (int matrix = 0; matrix < 4; ++matrix) {
        for (int r = 0; r < 8; ++r) {
            CHECK_EQ(Ldmatrix::address_lane(matrix, r), figures::kLdmatrixAddress[matrix][r],
                     "matrix %d row %d", matrix, r);
        }
    }
}

// Eight consecutive rows, from a multiple of eight on, must touch all 32 banks of 4 bytes.
template <int kChunks>
void check_swizzle() {
    for (int first = 0; first < 32; first += 8) {
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            std::set<int> banks;
            for (int row = first; row < first + 8; ++row) {
                const int swizzled = swizzle_chunk<kChunks>(row, chunk);
                CHECK(swizzled >= 0 && swizzled < kChunks, "%d chunks a row: (%d, %d) -> %d",
                      kChunks, row, chunk, swizzled);
                banks.insert((row * kChunks + swizzled) % 8);
            }
            CHECK_EQ(banks.size(), size_t(8), "%d chunks a row, rows %d.., chunk %d", kChunks,
                     first, chunk);
        }
    }
    for (int row = 0; row < 32; ++row) {
        std::set<int> used;
        for (int chunk = 0; chunk < kChunks; ++chunk) {
            used.insert(swizzle_chunk<kChunks>(row, chunk));
        }
        CHECK_EQ(used.size(), size_t(kChunks), "row %d is no permutation", row);
    }
}

TARPON_TEST(test_layout_swizzle_is_conflict_free) {
    check_swizzle<1>();
    check_swizzle<2>();
    check_swizzle<4>();
    check_swizzle<8>();
    check_swizzle<16>();
    check_swizzle<32>();
}

}  // namespace
}  // namespace tarpon::layout
