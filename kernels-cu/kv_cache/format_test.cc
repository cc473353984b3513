// The page format: every code has bits of its own, planes do not meet, and packing round-trips.
#include <cmath>
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
        Grid grid = choose_grid(x.data(), 64, bits);
        CHECK_EQ(to_float(grid.step), 0.0f, "zeros, %d bits", bits);
        CHECK_EQ(to_float(grid.scale), 0.0f, "zeros, %d bits", bits);
        CHECK_EQ(grid_code(0.0f, grid_inverse(grid.step), bits), 1u << (bits - 1), "%d bits", bits);
        // Too small for binary16, all negative: no scale below 0.
        grid = choose_grid(std::vector<float>(64, -1e-30f).data(), 64, bits);
        CHECK_EQ(grid.scale.bits, 0, "-1e-30, %d bits", bits);
        for (float most : {1e9f, 1e30f}) {
            x[3] = most;
            grid = choose_grid(x.data(), 64, bits);
            CHECK_EQ(to_float(grid.scale), 65504.0f, "%g, %d bits", most, bits);
            const float inverse = grid_inverse(grid.step);
            CHECK_EQ(grid_code(most, inverse, bits), (1u << bits) - 1, "%g, %d bits", most, bits);
            CHECK_EQ(grid_code(-most, inverse, bits), 0u, "%g, %d bits", most, bits);
        }
    }
}

// Of both steps the one is taken whose codes leave the lesser error under their best scale, in
// binary64. Up to 4 bits some vectors are clipped.
TARPON_TEST(test_kv_grid_takes_the_better_step) {
    Random random(5);
    constexpr int kDim = 128;
    for (int bits : {2, 3, 4, 8}) {
        int clipped = 0;
        for (int i = 0; i < 40; ++i) {
            std::vector<float> x(kDim);
            for (float &value : x)
                value = float(i % 2 == 1 ? random.normal() : random.uniform(-1, 1));
            const Spread s = spread(x.data(), kDim);
            double errors[kGridSteps], scales[kGridSteps];
            for (int which = 0; which < kGridSteps; ++which) {
                const float inverse = grid_inverse(grid_step(s, kDim, bits, which));
                const auto level = [&](float value) {
                    return double(grid_level(grid_code(value, inverse, bits), bits));
                };
                double dot = 0, square = 0;
                for (float value : x) {
                    dot += value * level(value);
                    square += level(value) * level(value);
                }
                scales[which] = dot / square;
                errors[which] = 0;
                for (float value : x)
                    errors[which] += std::pow(value - scales[which] * level(value), 2);
            }
            const int better = errors[1] < errors[0] ? 1 : 0;
            clipped += better;
            const Grid grid = choose_grid(x.data(), kDim, bits);
            CHECK_EQ(grid.step.bits, grid_step(s, kDim, bits, better).bits, "%d bits, vector %d",
                     bits, i);
            CHECK_NEAR(to_float(grid.scale) / scales[better], 1, 1.0 / 2048, "%d bits, vector %d",
                       bits, i);
        }
        CHECK(bits == 8 ? clipped == 0 : clipped > 0 && clipped < 40,
              "%d bits: %d of 40 are clipped", bits, clipped);
    }
}

}  // namespace
}  // namespace tarpon::kv_cache
