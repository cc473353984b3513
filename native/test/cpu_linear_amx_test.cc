// The AMX kernels of the linear layer on emulated tiles, so that they are tested on any processor
// with AVX-512 VNNI: against binary64, exactly where integers are exact, and rows that do not depend
// on other rows. Where there is AMX, cpu_linear_test and cpu_linear_formats_test run the kernels on
// the processor's tiles. Run alone: cpu_linear_amx_test [part of a test's name].
#include "cpu_linear_amx_emulation.h"
#include "cpu_linear_support.h"

namespace tarpon::cpu {
namespace {

// A block of every shape: one, one of 16, two and four of even and of uneven height, several tiles.
constexpr int64_t kRows[] = {1, 2, 15, 16, 17, 33, 50, 64, 69};
constexpr int64_t kMaxRows = 69;

const LinearKernel *kernel_for(const Layer &layer, tarpon_linear_arithmetic arithmetic) {
    return arithmetic == kExact ? emulated_amx_kernel(layer.format.type, layer.dtype)
                                : emulated_amx_int8_kernel(layer.format.type, layer.dtype);
}

std::unique_ptr<LinearPlan> make_amx_plan(ThreadPool &pool, const Layer &layer,
                                          tarpon_linear_arithmetic arithmetic) {
    return make_linear_plan(pool, *kernel_for(layer, arithmetic), layer.problem(arithmetic),
                            layer.weights());
}

void check_no_faults(long instructions_before) {
    const EmulatedTileCounts counts = emulated_tile_counts();
    CHECK(counts.instructions > instructions_before, "no tile was used");
    CHECK_EQ(counts.faults, 0L);
}

void check_formats(tarpon_linear_arithmetic arithmetic, bool integers) {
    require(Isa::kAvx512Vnni);
    ThreadPool pool(2);
    const long before = emulated_tile_counts().instructions;
    unsigned variation = 0;
    int served = 0;
    for (Format format : weight_formats()) {
        for (int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, kPerChannel}) {
            for (tarpon_dtype dtype : kDtypes) {
                ++variation;
                format.scale = static_cast<tarpon_scale_type>(variation % 3);
                format.bias = variation % 2 == 0;
                format.residual = variation % 3 == 0;
                format.permuted = variation % 5 == 0;
                format.two_levels = !integers && format.zero == TARPON_ZERO_FLOAT &&
                                    format.scale == TARPON_SCALE_F32;
                const Layer layer(kMaxRows, 40 + variation % 37, 20 + 41 * (variation % 7), group,
                                  dtype, integers, format);
                if (!kernel_for(layer, arithmetic)) continue;
                ++served;
                const auto plan = make_amx_plan(pool, layer, arithmetic);
                for (int64_t m : kRows) {
                    if (integers) {
                        check_bits(layer, *plan, m);
                    } else {
                        check_run(layer, *plan, m, arithmetic);
                    }
                }
            }
        }
    }
    // Exact: 7 formats, two dtypes; int8: 6 formats, three dtypes.
    CHECK_EQ(served, arithmetic == kExact ? 7 * 4 * 2 : 6 * 4 * 3);
    check_no_faults(before);
}

TARPON_TEST(test_cpu_linear_amx_matches_binary64_on_emulated_tiles) {
    check_formats(kExact, false);
}
TARPON_TEST(test_cpu_linear_amx_is_exact_on_integers_on_emulated_tiles) {
    check_formats(kExact, true);
}
TARPON_TEST(test_cpu_linear_amx_int8_matches_binary64_on_emulated_tiles) {
    check_formats(kInt8, false);
}

// The same integers, scaled and added in the same order as with VNNI: the same bits.
TARPON_TEST(test_cpu_linear_amx_int8_agrees_with_vnni_on_emulated_tiles) {
    require(Isa::kAvx512Vnni);
    const auto device = open(Isa::kAvx512Vnni, 2);
    ThreadPool pool(2);
    for (Format format : weight_formats()) {
        if (format.type == TARPON_WEIGHT_FP8_E4M3) continue;
        for (int64_t group : {32, 64, 128}) {
            const Layer layer(kMaxRows, 72, 390, group, TARPON_F32, false, format);
            const Run amx(*make_amx_plan(pool, layer, kInt8), layer, kMaxRows);
            const Run vnni(*make_plan(*device, layer, kInt8), layer, kMaxRows);
            CHECK(std::memcmp(amx.y(), vnni.y(), amx.bytes()) == 0, "%s",
                  layer.describe(kMaxRows).c_str());
        }
    }
}

void check_rows_are_independent(tarpon_linear_arithmetic arithmetic, tarpon_dtype dtype) {
    require(Isa::kAvx512Vnni);
    ThreadPool pool(2);
    Format format;
    format.zero = TARPON_ZERO_INTEGER;
    const Layer layer(kMaxRows, 40, 264, 128, dtype, false, format);
    const auto plan = make_amx_plan(pool, layer, arithmetic);
    const size_t row_bytes = static_cast<size_t>(layer.n) * elem_bytes(dtype);
    for (int64_t m : kRows) {
        const Run run(*plan, layer, m);
        for (int64_t i = 0; i < m; ++i) {
            const Run alone(*plan, layer, 1, i);
            CHECK(std::memcmp(run.y() + static_cast<size_t>(i) * row_bytes, alone.y(), row_bytes) ==
                      0,
                  "%s row %lld", layer.describe(m).c_str(), static_cast<long long>(i));
        }
    }
}

TARPON_TEST(test_cpu_linear_amx_rows_are_independent_on_emulated_tiles) {
    check_rows_are_independent(kExact, TARPON_BF16);
    check_rows_are_independent(kExact, TARPON_F16);
    check_rows_are_independent(kInt8, TARPON_F16);
}

// Every finite binary16 but the subnormals of bfloat16's size, which there are none of.
TARPON_TEST(test_cpu_linear_amx_keeps_every_bit_of_binary16_on_emulated_tiles) {
    require(Isa::kAvx512Vnni);
    ThreadPool pool(1);
    constexpr int64_t kBatch = 31;
    Layer layer(kBatch, 16, 8, 128, TARPON_F16, true);
    for (uint8_t &code : layer.codes)
        code = 9;  // weight 1 * scale
    for (int64_t i = 0; i < 16; ++i)
        store(layer.scales.data(), i, TARPON_F16, 1.0f);
    std::fill(layer.x.begin(), layer.x.end(), uint8_t{0});
    const auto plan = make_amx_plan(pool, layer, kExact);
    static_assert(0x7c00 % kBatch == 0);
    for (uint32_t first = 0; first < 0x7c00; first += kBatch) {
        auto *x = reinterpret_cast<uint16_t *>(layer.x.data());
        for (uint32_t i = 0; i < kBatch; ++i)
            x[i * 8 + 3] = static_cast<uint16_t>(first + i);
        const Run run(*plan, layer, kBatch);
        for (uint32_t i = 0; i < kBatch; ++i) {
            uint16_t got;
            std::memcpy(&got, run.y() + i * 16 * sizeof got, sizeof got);
            CHECK_EQ(uint32_t{got}, first + i);
        }
    }
}

TARPON_TEST(test_cpu_linear_amx_passes_on_infinity_and_nan_on_emulated_tiles) {
    require(Isa::kAvx512Vnni);
    ThreadPool pool(1);
    for (tarpon_dtype dtype : {TARPON_F16, TARPON_BF16}) {
        Layer layer(1, 40, 136, 128, dtype, true);
        for (uint8_t &code : layer.codes)
            code = 12;
        const auto plan = make_amx_plan(pool, layer, kExact);
        for (float value : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
            store(layer.x.data(), 77, dtype, value);
            const Run run(*plan, layer, 1);
            for (size_t i = 0; i < run.count(); ++i) {
                CHECK(std::isnan(value) ? std::isnan(run.at(i)) : run.at(i) == value,
                      "%s: x[77] = %g gives y[%zu] = %g", dtype_name(dtype), double{value}, i,
                      run.at(i));
            }
        }
    }
}

}  // namespace
}  // namespace tarpon::cpu
