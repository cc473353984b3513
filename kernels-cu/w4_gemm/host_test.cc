// Tests of the W4 GEMM's host code: packing, quantising, and the choice of tiles. Needs no device.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "common/layout.h"
#include "common/types.h"
#include "testing/golden.h"
#include "testing/random.h"
#include "testing/test.h"
#include "w4_gemm/pack.h"
#include "w4_gemm/quantize.h"
#include "w4_gemm/select.h"

namespace {

using namespace tarpon;
using namespace tarpon::testing;
using namespace tarpon::w4_gemm;

template <class T>
void check_equal_all(const std::vector<T> &actual, const std::vector<T> &expected,
                     const char *what) {
    REQUIRE(actual.size() == expected.size(), "%s: %zu elements, expected %zu", what, actual.size(),
            expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!CHECK_EQ(actual[i], expected[i], "%s[%zu]", what, i)) break;
    }
}

// ---- Packing ------------------------------------------------------------------------------------

// The nibbles are where the tensor core's B fragment wants them.
TARPON_TEST(test_w4_pack_follows_the_mma_fragment) {
    using Mma = layout::MmaM16N8K16;
    for (int lane = 0; lane < 32; ++lane) {
        for (int nibble = 0; nibble < 8; ++nibble) {
            // Nibbles i and i + 4 are the halves of register i: B fragment i / 2, register i % 2.
            const int reg = nibble % 4;
            const layout::Coord b = Mma::b(lane, reg % 2, nibble / 4);
            const TileCoord at = marlin_tile_coord(lane, nibble);
            CHECK_EQ(at.k, b.row, "lane %d, nibble %d", lane, nibble);
            CHECK_EQ(at.n, b.col + 8 * (reg / 2), "lane %d, nibble %d", lane, nibble);
        }
    }
}

TARPON_TEST(test_w4_pack_permutes_scales_one_to_one) {
    for (const bool single : {false, true}) {
        std::set<int> seen;
        for (int pos = 0; pos < kUnitN; ++pos)
            seen.insert(marlin_scale_column(pos, single));
        CHECK_EQ(seen.size(), size_t{kUnitN}, "single %d", single);
        CHECK(*seen.begin() == 0 && *seen.rbegin() == kUnitN - 1, "single %d", single);
    }
}

// Bits of the original packer and quantiser, both ways.
void check_golden(int k, int n, int group) {
    const GoldenFile golden(format("marlin_k%d_n%d_g%d.safetensors", k, n, group));
    const int64_t group_size = group < 0 ? k : group;
    const int64_t groups = ceil_div(k, group_size);
    const auto weight_kn = golden.get<uint16_t>("w_fp16");
    const auto codes = golden.get<uint8_t>("codes");
    const auto scales = golden.get<uint16_t>("s_fp16");
    const auto qweight = golden.get<int32_t>("B");
    const auto scales_packed = golden.get<uint16_t>("s_packed");

    std::vector<uint16_t> weight_nk(weight_kn.size());
    for (int i = 0; i < k; ++i) {
        for (int j = 0; j < n; ++j)
            weight_nk[j * k + i] = weight_kn[i * n + j];
    }
    std::vector<uint8_t> our_codes(codes.size());
    std::vector<uint16_t> our_scales(scales.size());
    const QuantizeResult result = quantize_rtn(weight_nk.data(), WeightDtype::kF16, n, k,
                                               group_size, our_codes.data(), our_scales.data());
    CHECK(result.fault == QuantizeFault::kNone);
    check_equal_all(our_codes, codes, "codes");
    check_equal_all(our_scales, scales, "scales");

    const MarlinSize size = marlin_size(n, k, groups);
    std::vector<int32_t> our_qweight(size.qweight_words);
    std::vector<uint16_t> our_packed(size.scales_elems);
    marlin_pack(codes.data(), scales.data(), n, k, groups, our_qweight.data(), our_packed.data());
    check_equal_all(our_qweight, qweight, "qweight");
    check_equal_all(our_packed, scales_packed, "scales_packed");

    marlin_unpack(qweight.data(), scales_packed.data(), n, k, groups, our_codes.data(),
                  our_scales.data());
    check_equal_all(our_codes, codes, "unpacked codes");
    check_equal_all(our_scales, scales, "unpacked scales");
}

TARPON_TEST(test_w4_pack_equals_golden_k128_group128) {
    check_golden(128, 256, 128);
}
TARPON_TEST(test_w4_pack_equals_golden_k128_per_channel) {
    check_golden(128, 256, -1);
}
TARPON_TEST(test_w4_pack_equals_golden_k256_group128) {
    check_golden(256, 512, 128);
}
TARPON_TEST(test_w4_pack_equals_golden_k256_per_channel) {
    check_golden(256, 512, -1);
}

TARPON_TEST(test_w4_pack_round_trips_odd_sizes) {
    Random random(1);
    for (const auto &[n, k, group_size] : {std::array{1, 1, 1},
                                           {3, 5, 5},
                                           {63, 17, 128},
                                           {65, 129, 128},
                                           {100, 300, 128},
                                           {64, 16, 16},
                                           {200, 1000, 1000},
                                           {33, 200, 32}}) {
        const int64_t groups = ceil_div(k, group_size);
        std::vector<uint8_t> codes(size_t(n) * k), codes_back(codes.size(), 0xff);
        std::vector<uint16_t> scales(size_t(groups) * n), scales_back(scales.size(), 0xffff);
        for (uint8_t &code : codes)
            code = uint8_t(random.integer(0, 15));
        for (uint16_t &scale : scales)
            scale = uint16_t(random.integer(1, 0x7bff));
        const MarlinSize size = marlin_size(n, k, groups);
        std::vector<int32_t> qweight(size.qweight_words, -1);
        std::vector<uint16_t> packed(size.scales_elems, 0xffff);
        marlin_pack(codes.data(), scales.data(), n, k, groups, qweight.data(), packed.data());
        marlin_unpack(qweight.data(), packed.data(), n, k, groups, codes_back.data(),
                      scales_back.data());
        const std::string what = format("n %d, k %d, group %d", n, k, group_size);
        check_equal_all(codes_back, codes, what.c_str());
        check_equal_all(scales_back, scales, what.c_str());
        // Padding: weight zero, scale zero.
        std::vector<uint8_t> padded(size.k_padded * size.n_padded);
        std::vector<uint16_t> padded_scales(size.scales_elems);
        marlin_unpack(qweight.data(), packed.data(), size.n_padded, size.k_padded, groups,
                      padded.data(), padded_scales.data());
        for (int64_t i = 0; i < size.k_padded; ++i) {
            for (int64_t j = 0; j < size.n_padded; ++j) {
                if (i < k && j < n) continue;
                CHECK_EQ(padded[i * size.n_padded + j], kZeroCode, "%s: padding (%d, %d)",
                         what.c_str(), int(i), int(j));
            }
        }
        for (int64_t i = 0; i < groups * size.n_padded; ++i) {
            if (i % size.n_padded < n) continue;
            CHECK_EQ(padded_scales[i], 0, "%s: padding scale %d", what.c_str(), int(i));
        }
    }
}

TARPON_TEST(test_w4_pack_finds_invalid_codes) {
    std::vector<uint8_t> codes(10000, 15);
    CHECK_EQ(find_invalid_code(codes.data(), 10000), -1);
    codes[9999] = 16;
    CHECK_EQ(find_invalid_code(codes.data(), 10000), 9999);
    codes[4096] = 255;
    CHECK_EQ(find_invalid_code(codes.data(), 10000), 4096);
    CHECK_EQ(find_invalid_code(codes.data(), 4096), -1);
}

// ---- Quantising ---------------------------------------------------------------------------------

// The documented arithmetic, one weight at a time.
template <class T>
void check_quantize(WeightDtype dtype, uint64_t seed) {
    constexpr int n = 70, k = 300, group_size = 128, groups = 3;
    Random random(seed);
    std::vector<T> weight(n * k);
    for (T &w : weight)
        w = from_float<T>(float(random.normal() * 0.02));
    for (int i = 128; i < 256; ++i)
        weight[5 * k + i] = from_float<T>(0.0f);  // a group of zeros
    for (int i = 0; i < 128; ++i)
        weight[6 * k + i] = from_float<T>(i == 3 ? 0x1p-24f : 0.0f);
    std::vector<uint8_t> codes(n * k);
    std::vector<uint16_t> scales(n * groups);
    CHECK(quantize_rtn(weight.data(), dtype, n, k, group_size, codes.data(), scales.data()).fault ==
          QuantizeFault::kNone);
    for (int j = 0; j < n; ++j) {
        for (int g = 0; g < groups; ++g) {
            const int begin = g * group_size, end = std::min(begin + group_size, k);
            double max = 0;
            for (int i = begin; i < end; ++i) {
                max = std::max(max, std::fabs(double(to_float(weight[j * k + i]))));
            }
            // The quotient is no tie of binary16, so rounding it twice is rounding it once.
            const half_t scale = from_float<half_t>(float(max * 2 / 15));
            CHECK_EQ(scales[g * n + j], scale.bits, "scale (%d, %d)", g, j);
            for (int i = begin; i < end; ++i) {
                float q = 0;
                if (scale.bits != 0) q = to_float(weight[j * k + i]) / to_float(scale);
                if (dtype == WeightDtype::kF16) q = to_float(from_float<half_t>(q));
                const int code = std::clamp(int(std::nearbyint(q)) + 8, 0, 15);
                CHECK_EQ(int(codes[i * n + j]), code, "code (%d, %d), quotient %g", i, j, q);
            }
        }
    }
}

TARPON_TEST(test_w4_quantize_f32) {
    check_quantize<float>(WeightDtype::kF32, 2);
}
TARPON_TEST(test_w4_quantize_f16) {
    check_quantize<half_t>(WeightDtype::kF16, 3);
}
TARPON_TEST(test_w4_quantize_bf16) {
    check_quantize<bf16_t>(WeightDtype::kBF16, 4);
}

TARPON_TEST(test_w4_quantize_names_bad_weights) {
    constexpr int n = 80, k = 200;
    std::vector<uint8_t> codes(n * k);
    std::vector<uint16_t> scales(n * 2);
    const auto quantize = [&](const std::vector<float> &weight) {
        return quantize_rtn(weight.data(), WeightDtype::kF32, n, k, 128, codes.data(),
                            scales.data());
    };
    for (const float bad : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> weight(n * k, 0.5f);
        weight[70 * k + 150] = bad;
        const QuantizeResult result = quantize(weight);
        CHECK(result.fault == QuantizeFault::kWeightNotFinite, "%g", bad);
        CHECK_EQ(result.n, 70);
        CHECK_EQ(result.k, 150);
        CHECK(!std::isfinite(result.value), "%g", result.value);
    }
    std::vector<float> weight(n * k, 0.5f);
    weight[3 * k + 199] = 1e6f;  // 1e6 * 2 / 15 is over 65504
    const QuantizeResult result = quantize(weight);
    CHECK(result.fault == QuantizeFault::kScaleOverflow);
    CHECK_EQ(result.n, 3);
    CHECK_EQ(result.k, 128);
    CHECK_EQ(result.value, 1e6f);
    weight[3 * k + 199] = 65504.0f * 7.5f;
    CHECK(quantize(weight).fault == QuantizeFault::kNone);
}

// ---- The choice of a launch ---------------------------------------------------------------------

constexpr DeviceProps kDevices[] = {{6, 80}, {108, 80}, {84, 86}, {128, 89}, {132, 90}, {148, 100}};

void check_choice(const Problem &problem, const DeviceProps &device, int64_t &workspace) {
    const Choice choice = select(problem, device);
    const std::string what =
        format("%s m %d n %d k %d, %d SMs of %d%s", traits(problem.format).name, int(problem.m),
               int(problem.n), int(problem.k), device.sm_count, device.compute_capability,
               problem.deterministic ? ", deterministic" : "");
    REQUIRE(choice.tile >= 0 && choice.tile < kTileCount);
    const TileShape &tile = tile_shape(problem, choice.tile);
    REQUIRE(tile.block_m > 0);
    const Partition work = partition(problem, tile);
    CHECK(work.total() <= int64_t{1} << 30, "%s", what.c_str());
    CHECK(choice.grid >= 1 && choice.stripe_tiles >= 1, "%s", what.c_str());
    // No tile is left out and no CTA is left without one.
    CHECK_EQ(ceil_div(work.total(), choice.stripe_tiles), choice.grid, "%s", what.c_str());
    CHECK_EQ(work.k_tiles % work.run_tiles, 0, "%s", what.c_str());
    if (problem.deterministic) {
        CHECK(is_sliced(tile), "%s", what.c_str());
        CHECK(choice.stripe_tiles == work.run_tiles || choice.stripe_tiles % work.k_tiles == 0,
              "%s: stripes of %d", what.c_str(), choice.stripe_tiles);
    } else {
        CHECK(choice.grid <= resident_blocks(tile, device), "%s", what.c_str());
    }
    const int64_t bytes = workspace_bytes(problem, device);
    CHECK(launch_workspace_bytes(tile, choice.grid) <= bytes, "%s", what.c_str());
    CHECK(bytes >= workspace, "%s: workspace shrinks to %lld", what.c_str(), (long long)bytes);
    workspace = bytes;
}

TARPON_TEST(test_w4_select_covers_the_work_within_the_workspace) {
    for (const DeviceProps &device : kDevices) {
        for (const int64_t n : {1, 64, 576, 4096, 28672}) {
            for (const int64_t k : {1, 33, 1408, 8192, 53248}) {
                for (int variant = 0; variant < 2 * kFormatCount; ++variant) {
                    const FormatId id = FormatId(variant / 2);
                    int64_t workspace = 0;
                    for (const int64_t m : {1, 8, 9, 16, 17, 33, 64, 65, 300, 4096, 100000}) {
                        const Problem problem{m, n, k, ceil_div(k, 128), id, variant % 2 == 1};
                        if (m <= max_rows(problem)) check_choice(problem, device, workspace);
                    }
                }
            }
        }
    }
}

// Slices of K do not depend on m, the format's groups or the device.
TARPON_TEST(test_w4_select_slices_by_the_weights_alone) {
    for (const int64_t m : {1, 20, 500}) {
        const Problem problem{m, 4096, 4096, 32, FormatId::kInt8Symmetric, true};
        const TileShape &tile = tile_shape(problem, select(problem, {132, 90}).tile);
        CHECK_EQ(partition(problem, tile).run_tiles, slice_tiles(4096, 4096));
        CHECK_EQ(partition(problem, tile).k_tiles, 128);
    }
}

const TileShape &tile_of(const Problem &problem, const DeviceProps &device) {
    return tile_shape(problem, select(problem, device).tile);
}

TARPON_TEST(test_w4_select_takes_the_tile_that_fits_the_rows) {
    for (const DeviceProps &device : kDevices) {
        CHECK_EQ(tile_of({1, 4096, 4096, 32}, device).block_m, 8);
        CHECK_EQ(tile_of({8, 4096, 4096, 32}, device).block_m, 8);
        CHECK_EQ(tile_of({16, 4096, 4096, 32}, device).block_m, 16);
        CHECK_EQ(tile_of({4096, 8192, 8192, 64}, device).block_m, 64);
    }
}

TARPON_TEST(test_w4_select_fills_the_device) {
    const DeviceProps h200{132, 90};
    const Choice choice = select({1, 8192, 8192, 64}, h200);
    CHECK(choice.grid > 120, "grid %d", choice.grid);
    // Weights of 34 MB at 4.8 TB/s are 7 us; the model must be of that order.
    CHECK(choice.predicted_us > 7 && choice.predicted_us < 20, "%g us", choice.predicted_us);
}

// One CTA of over 50 KiB on an SM of 100 KiB, two on one of 164 KiB.
TARPON_TEST(test_w4_select_counts_what_fits_on_an_sm) {
    CHECK_EQ(resident_blocks(tile_shape(FormatId::kInt4Symmetric, true, 0), {128, 89}), 128);
    CHECK_EQ(resident_blocks(tile_shape(FormatId::kInt4Symmetric, true, 0), {108, 80}), 216);
    CHECK_EQ(resident_blocks(tile_shape(FormatId::kInt4Symmetric, true, 4), {108, 80}), 108);
}

TARPON_TEST(test_w4_select_needs_no_workspace_for_no_rows) {
    CHECK_EQ(workspace_bytes({0, 4096, 4096, 32}, {132, 90}), 0);
}

}  // namespace
