// The single-lane arithmetic of ptx.cuh, and the device bodies of types.h, against hand-typed
// tables and an independent rounding; on the simulator and on a GPU.
#include <cmath>
#include <utility>
#include <vector>

#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "testing/device_buffer.h"
#include "testing/random.h"
#include "testing/test.h"

namespace tarpon::conformance {
namespace {

using namespace tarpon::ptx;
using testing::check_cuda;
using testing::DeviceBuffer;
using testing::Random;

// ---- Bits -------------------------------------------------------------------------------------

// 0xf0, 0xcc and 0xaa enumerate all inputs of one bit, so the low byte of the result is the table.
template <int... kLuts>
TARPON_DEVICE void all_lop3(uint32_t *out, std::integer_sequence<int, kLuts...>) {
    (st_global(&out[kLuts], lop3<kLuts>(0xfffff0f0u, 0x0000ccccu, 0xffffaaaau)), ...);
}

TARPON_KERNEL void lop3_kernel(uint32_t *out) {
    if (thread_idx() == 0) all_lop3(out, std::make_integer_sequence<int, 256>());
}

TARPON_TEST(test_ptx_lop3_every_table) {
    testing::require_device();
    DeviceBuffer<uint32_t> out(256);
    check_cuda(launch(lop3_kernel, 1, 32, 0, nullptr, out.data()), "lop3_kernel");
    const auto values = out.to_host();
    for (uint32_t lut = 0; lut < 256; ++lut) {
        // In the upper half a = 1, b = 0, c = 1: bit 5 of the table.
        const uint32_t expected = (lut >> 5 & 1 ? 0xffff0000u : 0u) | lut << 8 | lut;
        CHECK_EQ(values[lut], expected, "table 0x%02x", lut);
    }
}

struct PrmtCase {
    uint32_t a, b, selector, expected;
};

// From the manual's description of the default mode; b3 .. a0 are bytes 7 .. 0.
constexpr PrmtCase kPrmtCases[] = {
    {0x03020100, 0x07060504, 0x3210, 0x03020100},  // a itself
    {0x03020100, 0x07060504, 0x7654, 0x07060504},  // b itself
    {0x03020100, 0x07060504, 0x5410, 0x05040100},  // low halves
    {0x03020100, 0x07060504, 0x7632, 0x07060302},  // high halves
    {0x03020100, 0x07060504, 0x0123, 0x00010203},  // bytes reversed
    {0x03020100, 0x07060504, 0x4321, 0x04030201},  // shifted down by a byte
    {0x03020100, 0x07060504, 0x0000, 0x00000000},
    {0x83027f80, 0xff060504, 0x000b, 0x808080ff},      // sign of byte 3, then byte 0 thrice
    {0x83027f80, 0xff060504, 0x9f8b, 0x00ffffff},      // signs of bytes 1, 7, 0, 3
    {0x83027f80, 0xff060504, 0xffff3210, 0x83027f80},  // only 16 selector bits count
};
constexpr int kPrmtCount = sizeof kPrmtCases / sizeof kPrmtCases[0];

TARPON_KERNEL void prmt_kernel(const uint32_t *in, uint32_t *out) {
    const int t = thread_idx();
    if (t >= kPrmtCount) return;
    const uint32_t a = ld_global(&in[3 * t]), b = ld_global(&in[3 * t + 1]);
    st_global(&out[t], prmt(a, b, ld_global(&in[3 * t + 2])));
}

TARPON_TEST(test_ptx_prmt) {
    testing::require_device();
    std::vector<uint32_t> in;
    for (const PrmtCase &c : kPrmtCases)
        in.insert(in.end(), {c.a, c.b, c.selector});
    DeviceBuffer<uint32_t> device_in(in), out(kPrmtCount);
    check_cuda(launch(prmt_kernel, 1, 32, 0, nullptr, device_in.data(), out.data()), "prmt_kernel");
    const auto values = out.to_host();
    for (size_t i = 0; i < kPrmtCount; ++i) {
        CHECK_EQ(values[i], kPrmtCases[i].expected, "case %zu, selector 0x%04x", i,
                 kPrmtCases[i].selector);
    }
}

// ---- Packed pairs -----------------------------------------------------------------------------

// out[0..3][i]: fma2, mul2, add2, sub2 of the i-th words.
template <class T>
TARPON_KERNEL void pairs_kernel(const uint32_t *in, uint32_t *out, int count) {
    const int i = block_idx() * block_dim() + thread_idx();
    if (i >= count) return;
    const uint32_t a = ld_global(&in[i]), b = ld_global(&in[count + i]);
    const uint32_t c = ld_global(&in[2 * count + i]);
    st_global(&out[i], fma2<T>(a, b, c));
    st_global(&out[count + i], mul2<T>(a, b));
    st_global(&out[2 * count + i], add2<T>(a, b));
    st_global(&out[3 * count + i], sub2<T>(a, b));
}

template <class T>
constexpr uint16_t kInfinity = std::is_same_v<T, half_t> ? 0x7c00 : 0x7f80;

// The value of T nearest to `exact`, found by bisection and distances: independent of the rounding
// code of types.h and of the simulator.
template <class T>
uint16_t nearest(long double exact) {
    const uint16_t sign = std::signbit(exact) ? 0x8000 : 0;
    const long double magnitude = std::fabs(exact);
    const auto value = [](uint16_t bits) -> long double {
        if (bits < kInfinity<T>) return to_float(T{bits});
        // For rounding, infinity is one step beyond the largest finite value.
        const long double largest = to_float(T{uint16_t(bits - 1)});
        return 2 * largest - to_float(T{uint16_t(bits - 2)});
    };
    uint16_t low = 0, high = kInfinity<T>;  // magnitudes are ordered like their bits
    if (magnitude >= value(high)) return uint16_t(sign | high);
    while (high - low > 1) {
        const auto middle = uint16_t((low + high) / 2);
        (value(middle) <= magnitude ? low : high) = middle;
    }
    const long double below = magnitude - value(low), above = value(high) - magnitude;
    const bool up = above < below || (above == below && low % 2);
    return uint16_t(sign | (up ? high : low));
}

template <class T>
void check_pair_result(const char *operation, uint32_t actual, int half, long double exact,
                       uint16_t a, uint16_t b, uint16_t c) {
    const auto bits = uint16_t(actual >> (16 * half));
    const T got{bits};
    const uint16_t expected = nearest<T>(exact);
    // The sign of a zero sum depends on its terms' signs, which `exact` no longer shows.
    const bool same = bits == expected || (exact == 0 && to_float(got) == 0);
    CHECK(same, "%s of 0x%04x 0x%04x 0x%04x: 0x%04x, expected 0x%04x", operation, unsigned(a),
          unsigned(b), unsigned(c), unsigned(bits), unsigned(expected));
}

// A finite value: mostly of a few binades, so that sums round in interesting ways, now and then any.
template <class T>
uint16_t random_bits(Random &random) {
    if (random.integer(0, 3) != 0) return from_float<T>(float(random.uniform(-8, 8))).bits;
    for (;;) {
        const auto anything = uint16_t(random.bits());
        if ((anything & 0x7fff) < kInfinity<T>) return anything;
    }
}

// Whether x + y is exact in the 64 bits of a long double, of which x and y use 22 at most.
bool sums_exactly(long double x, long double y) {
    return x == 0 || y == 0 || std::abs(std::ilogb(x) - std::ilogb(y)) < 40;
}

template <class T>
void check_pairs() {
    constexpr int kCount = 4096;
    Random random(7);
    std::vector<uint32_t> in(3 * kCount);
    for (uint32_t &word : in) {
        word = random_bits<T>(random) | uint32_t(random_bits<T>(random)) << 16;
    }
    DeviceBuffer<uint32_t> device_in(in), out(4 * kCount);
    check_cuda(launch(pairs_kernel<T>, kCount / 128, 128, 0, nullptr, device_in.data(), out.data(),
                      kCount),
               "pairs_kernel");
    const auto values = out.to_host();
    for (size_t i = 0; i < kCount; ++i) {
        for (int half = 0; half < 2; ++half) {
            const auto bits = [&](size_t operand) {
                return uint16_t(in[operand * kCount + i] >> (16 * half));
            };
            const uint16_t a = bits(0), b = bits(1), c = bits(2);
            const long double x = to_float(T{a}), y = to_float(T{b}), z = to_float(T{c});
            check_pair_result<T>("a * b", values[kCount + i], half, x * y, a, b, 0);
            if (sums_exactly(x, y)) {
                check_pair_result<T>("a + b", values[2 * kCount + i], half, x + y, a, b, 0);
                check_pair_result<T>("a - b", values[3 * kCount + i], half, x - y, a, b, 0);
            }
            if (sums_exactly(x * y, z)) {
                check_pair_result<T>("a * b + c", values[i], half, x * y + z, a, b, c);
            }
        }
    }
}

TARPON_TEST(test_ptx_half_pairs_round_once) {
    testing::require_device();
    check_pairs<half_t>();
}

TARPON_TEST(test_ptx_bf16_pairs_round_once) {
    testing::require_device();
    check_pairs<bf16_t>();
}

struct FmaCase {
    uint16_t a, b, c, expected;
};

// Ties that a tiny addend breaks (two roundings would not see it), and special values.
constexpr FmaCase kHalfCases[] = {
    {0x3c01, 0x3c01, 0x0000, 0x3c02},  // (1 + 2^-10)^2 = 1 + 2^-9 + 2^-20
    {0x3c01, 0x3c01, 0xbc02, 0x0010},  // minus (1 + 2^-9): 2^-20 survives
    {0x4200, 0x6156, 0x0000, 0x6800},  // 3 * 683 = 2049: a tie, to even 2048
    {0x4200, 0x6156, 0x0001, 0x6801},  // 2049 + 2^-24: 2050
    {0x4200, 0x6156, 0x8001, 0x6800},  // 2049 - 2^-24: 2048
    {0x7bff, 0x4000, 0x0000, 0x7c00},  // overflow
    {0x7c00, 0x3c00, 0xfc00, 0x7fff},  // inf - inf: the canonical NaN
    {0x7e00, 0x3c00, 0x3c00, 0x7fff},  // NaN in, canonical NaN out
    {0x0001, 0x3800, 0x0000, 0x0000},  // half of the smallest subnormal: a tie, to even
    {0x0003, 0x3800, 0x0000, 0x0002},  // one and a half of it: a tie, to even
    {0x3c00, 0x3c00, 0xbc00, 0x0000},  // 1 - 1 = +0
};
constexpr FmaCase kBf16Cases[] = {
    {0x3f81, 0x3f81, 0x0000, 0x3f82},  // (1 + 2^-7)^2 = 1 + 2^-6 + 2^-14
    {0x3f81, 0x3f81, 0xbf82, 0x3880},  // minus (1 + 2^-6): 2^-14 survives
    {0x40a0, 0x4254, 0x0000, 0x4384},  // 5 * 53 = 265: a tie, to even 264
    {0x40a0, 0x4254, 0x0d80, 0x4385},  // 265 + 2^-100: 266
    {0x40a0, 0x4254, 0x8d80, 0x4384},  // 265 - 2^-100: 264
    {0x7f7f, 0x4000, 0x0000, 0x7f80},  // overflow
    {0x7f80, 0x3f80, 0xff80, 0x7fff},  // inf - inf: the canonical NaN
    {0x7fc0, 0x3f80, 0x3f80, 0x7fff},  // NaN in, canonical NaN out
    {0x0001, 0x3f00, 0x0000, 0x0000},  // half of the smallest subnormal: a tie, to even
    {0x0003, 0x3f00, 0x0000, 0x0002},  // one and a half of it: a tie, to even
    {0x3f80, 0x3f80, 0xbf80, 0x0000},  // 1 - 1 = +0
};

// Each case in the upper half of the pair, with 1 * 1 + 1 below it.
template <class T, size_t kCount>
void check_fma_cases(const FmaCase (&cases)[kCount]) {
    constexpr uint32_t kOne = std::is_same_v<T, half_t> ? 0x3c00 : 0x3f80;
    constexpr uint32_t kTwo = 0x4000;  // in both formats
    std::vector<uint32_t> in(3 * kCount);
    for (size_t i = 0; i < kCount; ++i) {
        in[i] = uint32_t(cases[i].a) << 16 | kOne;
        in[kCount + i] = uint32_t(cases[i].b) << 16 | kOne;
        in[2 * kCount + i] = uint32_t(cases[i].c) << 16 | kOne;
    }
    DeviceBuffer<uint32_t> device_in(in), out(4 * kCount);
    check_cuda(
        launch(pairs_kernel<T>, 1, 32, 0, nullptr, device_in.data(), out.data(), int(kCount)),
        "pairs_kernel");
    const auto values = out.to_host();
    for (size_t i = 0; i < kCount; ++i) {
        CHECK_EQ(values[i], uint32_t(cases[i].expected) << 16 | kTwo, "case %zu", i);
    }
}

TARPON_TEST(test_ptx_fma2_special_cases) {
    testing::require_device();
    check_fma_cases<half_t>(kHalfCases);
    check_fma_cases<bf16_t>(kBf16Cases);
}

// ---- Conversions ------------------------------------------------------------------------------

// Thread i: the pair of bits (i, ~i) unpacked and packed again, and its two floats converted.
template <class T>
TARPON_KERNEL void convert_kernel(const float *in, float *unpacked, uint32_t *repacked,
                                  uint32_t *packed, uint16_t *converted) {
    const int i = block_idx() * block_dim() + thread_idx();
    float low, high;
    unpack2<T>(uint32_t(i) | uint32_t(~i) << 16, low, high);
    st_global(&unpacked[2 * i], low);
    st_global(&unpacked[2 * i + 1], high);
    st_global(&repacked[i], pack2<T>(low, high));
    const float x = ld_global(&in[2 * i]), y = ld_global(&in[2 * i + 1]);
    st_global(&packed[i], pack2<T>(x, y));
    st_global(&converted[i], from_float<T>(x).bits);
}

template <class T>
void check_conversions() {
    constexpr size_t kCount = 65536;
    Random random(3);
    std::vector<float> in(2 * kCount);
    for (float &value : in) {
        value = random.integer(0, 1) ? float(random.normal())
                                     : std::bit_cast<float>(uint32_t(random.bits()));
    }
    DeviceBuffer<float> device_in(in), unpacked(2 * kCount);
    DeviceBuffer<uint32_t> repacked(kCount), packed(kCount);
    DeviceBuffer<uint16_t> converted(kCount);
    check_cuda(launch(convert_kernel<T>, int(kCount / 128), 128, 0, nullptr, device_in.data(),
                      unpacked.data(), repacked.data(), packed.data(), converted.data()),
               "convert_kernel");
    const auto floats = unpacked.to_host();
    const auto again = repacked.to_host(), pairs = packed.to_host();
    const auto singles = converted.to_host();
    for (size_t i = 0; i < kCount; ++i) {
        const uint16_t bits[2] = {uint16_t(i), uint16_t(~i)};
        for (int half = 0; half < 2; ++half) {
            const float expected = to_float(T{bits[half]});
            const float actual = floats[2 * i + size_t(half)];
            const auto back = uint16_t(again[i] >> (16 * half));
            if (std::isnan(expected)) {
                CHECK(std::isnan(actual), "bits 0x%04x", unsigned(bits[half]));
                CHECK_EQ(back, uint16_t(0x7fff), "bits 0x%04x", unsigned(bits[half]));
            } else {
                CHECK_EQ(actual, expected, "bits 0x%04x", unsigned(bits[half]));
                CHECK_EQ(back, bits[half], "bits 0x%04x", unsigned(bits[half]));
            }
        }
        const uint32_t low = from_float<T>(in[2 * i]).bits;
        const uint32_t high = from_float<T>(in[2 * i + 1]).bits;
        CHECK_EQ(pairs[i], low | high << 16, "%a, %a", double(in[2 * i]), double(in[2 * i + 1]));
        CHECK_EQ(singles[i], uint16_t(low), "%a", double(in[2 * i]));
    }
}

TARPON_TEST(test_ptx_conversions_equal_host) {
    testing::require_device();
    check_conversions<half_t>();
    check_conversions<bf16_t>();
}

}  // namespace
}  // namespace tarpon::conformance
