// The page format: every code has bits of its own, planes do not meet, and packing round-trips.
#include <vector>

#include "kv_cache/ref.h"
#include "testing/random.h"
#include "testing/test.h"

namespace tarpon::kv_cache {
namespace {

using testing::Random;

constexpr int kBits[] = {2, 3, 4, 8, 16};

TARPON_TEST(test_kv_format_codes_round_trip_without_meeting) {
    for (int head_dim : {64, 96, 128, 256}) {
        for (int page_tokens : {64, 128}) {
            for (int bits : kBits) {
                const Format f{head_dim, 1, page_tokens, bits, bits};
                const BlockLayout layout = block_layout(f);
                for (int offset : {layout.k_scales, layout.v_codes, layout.v_scales, layout.bytes})
                    CHECK_EQ(offset % 64, 0, "head_dim %d, %d bits", head_dim, bits);
                std::vector<uint8_t> block(layout.bytes, 0xff);
                std::vector<uint32_t> k, v;
                Random random(uint64_t(head_dim * bits));
                for (int t = 0; t < page_tokens; ++t) {
                    for (int c = 0; c < head_dim; ++c) {
                        k.push_back(uint32_t(random.bits()) & ((1u << bits) - 1));
                        v.push_back(uint32_t(random.bits()) & ((1u << bits) - 1));
                        set_k_code(block.data() + layout.k_codes, f, t, c, k.back());
                        set_v_code(block.data() + layout.v_codes, f, t, c, v.back());
                    }
                }
                for (int t = 0; t < page_tokens; ++t) {
                    for (int c = 0; c < head_dim; ++c) {
                        const size_t i = size_t(t) * head_dim + c;
                        CHECK_EQ(k_code(block.data() + layout.k_codes, f, t, c), k[i],
                                 "K head_dim %d, %d bits, token %d channel %d", head_dim, bits, t,
                                 c);
                        CHECK_EQ(v_code(block.data() + layout.v_codes, f, t, c), v[i],
                                 "V head_dim %d, %d bits, token %d channel %d", head_dim, bits, t,
                                 c);
                    }
                }
                // Every bit of the codes is some code's: all ones were overwritten by zeros.
                for (int t = 0; t < page_tokens; ++t) {
                    for (int c = 0; c < head_dim; ++c) {
                        set_k_code(block.data() + layout.k_codes, f, t, c, 0);
                        set_v_code(block.data() + layout.v_codes, f, t, c, 0);
                    }
                }
                for (int i = 0; i < layout.bytes; ++i) {
                    const bool scales =
                        (i >= layout.k_scales && i < layout.v_codes) || i >= layout.v_scales;
                    CHECK_EQ(int(block[i]), scales ? 0xff : 0, "head_dim %d, %d bits, byte %d",
                             head_dim, bits, i);
                }
            }
        }
    }
}

TARPON_TEST(test_kv_format_is_version_1) {
    // Hand-computed from README.md: a change of these is a new version of the format.
    CHECK_EQ(format_version(Scheme::kTarpon), 1);
    const Format f{128, 8, 64, 2, 2};
    const BlockLayout layout = block_layout(f);
    CHECK_EQ(layout.k_scales, 2048);
    CHECK_EQ(layout.v_codes, 2176);
    CHECK_EQ(layout.v_scales, 4224);
    CHECK_EQ(page_bytes(f), size_t(8 * 4352));
    CHECK_NEAR(bits_per_value(f), 2.125, 1e-12);
    std::vector<uint8_t> block(layout.bytes);
    set_k_code(block.data(), f, 17, 21, 3);  // tile 1, word 1, token 1 of the tile, bits 10..11
    CHECK_EQ(int(block[((1 * 8 + 1) * 16 + 1) * 4 + 1]), 3 << 2);
    set_v_code(block.data() + layout.v_codes, f, 5, 77, 2);  // chunk 2, lane 5, i = 1: bits 2..3
    CHECK_EQ(int(block[layout.v_codes + 5 * 32 + 2 * 8 + 5]), 2 << 2);
}

TARPON_TEST(test_kv_format_of_rotatekv_is_version_2) {
    CHECK_EQ(format_version(Scheme::kRotatekv), 2);
    const Format f{256, 2, 64, 2, 4, Scheme::kRotatekv};  // two groups of 128 channels a head
    const BlockLayout layout = block_layout(f);
    CHECK_EQ(layout.k_scales, 4096);
    CHECK_EQ(layout.k_zeros, 4096 + 256);
    CHECK_EQ(layout.v_codes, 4096 + 512);
    CHECK_EQ(layout.v_scales, 4608 + 8192);
    CHECK_EQ(layout.v_zeros, 12800 + 256);
    CHECK_EQ(page_bytes(f), size_t(2 * (12800 + 512)));
    CHECK_EQ(scale_index(f, 1, 5), 69);
    CHECK_NEAR(bits_per_value(f), 3.25, 1e-12);
    const Format plain{96, 1, 128, 16, 16, Scheme::kRotatekv};
    CHECK_EQ(block_layout(plain).v_zeros, block_layout(plain).bytes);
    CHECK_NEAR(bits_per_value(plain), 16, 1e-12);
}

TARPON_TEST(test_kv_grid_of_extreme_vectors) {
    for (int bits : {2, 3, 4, 8}) {
        std::vector<float> x(64, 0.0f);
        CHECK_EQ(to_float(grid_scale(spread(x.data(), 64), 64, bits)), 0.0f, "zeros, %d bits",
                 bits);
        CHECK_EQ(grid_code(0.0f, grid_inverse(half_t{0}), bits), 1u << (bits - 1), "%d bits", bits);
        x[3] = 1e9f;
        const half_t scale = grid_scale(spread(x.data(), 64), 64, bits);
        CHECK_EQ(to_float(scale), 65504.0f, "1e9, %d bits", bits);
        CHECK_EQ(grid_code(1e9f, grid_inverse(scale), bits), (1u << bits) - 1, "%d bits", bits);
        CHECK_EQ(grid_code(-1e9f, grid_inverse(scale), bits), 0u, "%d bits", bits);
    }
}

}  // namespace
}  // namespace tarpon::kv_cache
