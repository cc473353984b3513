// Conversions of types.h, against values typed by hand and against the compiler's own binary16.
// Run alone: types_test.
#include "common/types.h"

#include <cmath>
#include <limits>

#include "testing/random.h"
#include "testing/test.h"

namespace tarpon {
namespace {

struct Known {
    float value;
    uint16_t bits;
};

constexpr float kInf = std::numeric_limits<float>::infinity();

TARPON_TEST(test_types_half_known_values) {
    const Known known[] = {
        {0.0f, 0x0000},
        {-0.0f, 0x8000},
        {1.0f, 0x3c00},
        {-2.0f, 0xc000},
        {65504.0f, 0x7bff},
        {65519.96f, 0x7bff},
        {65520.0f, 0x7c00},
        {1e30f, 0x7c00},
        {kInf, 0x7c00},
        {-kInf, 0xfc00},
        {0x1p-14f, 0x0400},
        {0x1p-24f, 0x0001},
        {0x1p-25f, 0x0000},
        {0x1.8p-25f, 0x0001},
        {0x1.8p-24f, 0x0002},
        {-0x1p-24f, 0x8001},
        {0x1.ffcp-15f, 0x03ff + 1},
        {0x1.ff8p-15f, 0x03ff},
        {2049.0f, 0x6800},
        {2051.0f, 0x6802},
    };
    for (const Known &k : known)
        CHECK_EQ(from_float<half_t>(k.value).bits, k.bits, "%a", k.value);
    CHECK_EQ(from_float<half_t>(NAN).bits, uint16_t(0x7fff));
    CHECK(std::isnan(to_float(half_t{0x7e00})) && std::isnan(to_float(half_t{0xfc01})));
}

TARPON_TEST(test_types_bf16_known_values) {
    const Known known[] = {
        {0.0f, 0x0000},        {-0.0f, 0x8000},        {1.0f, 0x3f80},      {-2.0f, 0xc000},
        {kInf, 0x7f80},        {-kInf, 0xff80},        {257.0f, 0x4380},    {259.0f, 0x4382},
        {0x1.fep127f, 0x7f7f}, {0x1.ffp127f, 0x7f80},  {0x1p-133f, 0x0001}, {0x1p-134f, 0x0000},
        {0x1.8p-134f, 0x0001}, {-0x1.8p-133f, 0x8002},
    };
    for (const Known &k : known)
        CHECK_EQ(from_float<bf16_t>(k.value).bits, k.bits, "%a", k.value);
    CHECK_EQ(from_float<bf16_t>(NAN).bits, uint16_t(0x7fff));
    CHECK(std::isnan(to_float(bf16_t{0x7fc0})) && std::isnan(to_float(bf16_t{0xff81})));
}

template <class T>
void check_round_trip() {
    for (int bits = 0; bits < 65536; ++bits) {
        const float value = to_float(T{uint16_t(bits)});
        if (std::isnan(value)) continue;
        CHECK_EQ(from_float<T>(value).bits, uint16_t(bits), "bits 0x%04x", unsigned(bits));
    }
}

TARPON_TEST(test_types_round_trip_every_value) {
    check_round_trip<half_t>();
    check_round_trip<bf16_t>();
}

// Every tie between neighbours, and the floats beside it.
TARPON_TEST(test_types_half_rounds_ties_to_even) {
    for (int bits = 0; bits < 0x7bff; ++bits) {
        const float low = to_float(half_t{uint16_t(bits)});
        const float high = to_float(half_t{uint16_t(bits + 1)});
        const float tie = low + (high - low) / 2;
        const auto even = uint16_t(bits % 2 ? bits + 1 : bits);
        CHECK_EQ(from_float<half_t>(tie).bits, even, "tie above 0x%04x", unsigned(bits));
        CHECK_EQ(from_float<half_t>(std::nextafter(tie, 0.0f)).bits, uint16_t(bits));
        CHECK_EQ(from_float<half_t>(std::nextafter(tie, kInf)).bits, uint16_t(bits + 1));
        CHECK_EQ(from_float<half_t>(-tie).bits, uint16_t(even | 0x8000));
    }
}

TARPON_TEST(test_types_half_equals_compiler) {
    testing::Random random(1);
    for (int i = 0; i < 2'000'000; ++i) {
        const auto value = std::bit_cast<float>(uint32_t(random.bits()));
        if (std::isnan(value)) continue;
        const auto expected = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
        CHECK_EQ(from_float<half_t>(value).bits, expected, "%a", double(value));
    }
}

}  // namespace
}  // namespace tarpon
