// The code maps of kernels-cu/optim/maps.h: values and codes against the reference's files, and the
// encoder against a search over all values. Run alone: optim_maps_test.
#include "optim/maps.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "optim_golden.h"

namespace tarpon::optim {
namespace {

int failures = 0;

#define TARPON_EXPECT(condition, ...)                              \
    do {                                                           \
        if (!(condition)) {                                        \
            if (++failures <= 20) {                                \
                std::printf("FAILED %s:%d: ", __func__, __LINE__); \
                std::printf(__VA_ARGS__);                          \
                std::printf("\n");                                 \
            }                                                      \
        }                                                          \
    } while (0)

const char *const kNames[kMapKinds] = {"dynamic signed", "dynamic unsigned", "linear int8",
                                       "fp8 e4m3",       "dynamic 4-bit",    "NF4"};

// The values in ascending order with the code of each.
struct Sorted {
    std::vector<std::pair<float, int>> values;

    explicit Sorted(const CodeMap &map) {
        const int codes = is_four_bit(map.kind) ? 16 : 256;
        for (int code = 0; code < codes; ++code) {
            const bool unused = std::isnan(map.value[code]) ||
                                (map.kind == MapKind::kLinear && code == 128) ||
                                (map.kind == MapKind::kFp8E4M3 && code == 128);  // minus zero
            if (!unused) values.push_back({map.value[code], code});
        }
        std::sort(values.begin(), values.end());
    }

    // The nearest value in binary64, and the distance to it. On a tie the lower one.
    double nearest(double x, double *distance) const {
        double best = 0;
        *distance = std::numeric_limits<double>::infinity();
        for (auto [value, code] : values) {
            if (std::abs(x - value) < *distance) {
                *distance = std::abs(x - value);
                best = value;
            }
        }
        return best;
    }
};

// x rounds to the nearest value. On a rounded midpoint both neighbours are within half an ulp of x
// of being nearest; fp8 and int8 multiply by 448 and 127 before they round, which moves a midpoint
// by up to an ulp of x.
void expect_nearest(const CodeMap &map, const Sorted &sorted, float x) {
    double distance;
    const double clamped = map.is_signed ? x : std::max(x, 0.0f);
    const double want = sorted.nearest(clamped, &distance);
    const double got = decode(map, encode(map, x));
    const double slack = 0x1p-23 * std::max(std::abs(clamped), 0x1p-24);
    TARPON_EXPECT(std::abs(clamped - got) <= distance + slack,
                  "%s: %.9g (%a) became %.9g, nearest is %.9g", kNames[int(map.kind)], x, x, got,
                  want);
}

float ulps_away(float x, int ulps) {
    for (; ulps > 0; --ulps)
        x = std::nextafterf(x, 2.0f);
    for (; ulps < 0; ++ulps)
        x = std::nextafterf(x, -2.0f);
    return x;
}

// Every midpoint and every value, and the floats around them.
void test_maps_nearest_at_every_border() {
    for (int kind = 0; kind < kMapKinds; ++kind) {
        const CodeMap &map = code_map(MapKind(kind));
        const Sorted sorted(map);
        for (size_t i = 0; i + 1 < sorted.values.size(); ++i) {
            const float low = sorted.values[i].first, high = sorted.values[i + 1].first;
            const float midpoint = (low + high) * 0.5f;
            for (int ulps = -3; ulps <= 3; ++ulps) {
                expect_nearest(map, sorted, ulps_away(midpoint, ulps));
                if (std::abs(low) < 1) expect_nearest(map, sorted, ulps_away(low, ulps));
            }
            const bool midpoint_map = map.kind != MapKind::kLinear && map.kind != MapKind::kFp8E4M3;
            if (!midpoint_map) continue;
            const int lower_code = sorted.values[i].second;
            const int upper_code = sorted.values[i + 1].second;
            TARPON_EXPECT(int(encode(map, midpoint)) == lower_code,
                          "%s: the midpoint %.9g takes code %u, not the lower one %d", kNames[kind],
                          midpoint, encode(map, midpoint), lower_code);
            TARPON_EXPECT(int(encode(map, ulps_away(midpoint, 1))) == upper_code,
                          "%s: just above the midpoint %.9g the code is %u, not %d", kNames[kind],
                          midpoint, encode(map, ulps_away(midpoint, 1)), upper_code);
        }
    }
}

// Every binade of binary32 up to 1: its ends, and a pattern of mantissas through it.
void test_maps_nearest_in_every_binade() {
    std::mt19937 random(7);
    for (int kind = 0; kind < kMapKinds; ++kind) {
        const CodeMap &map = code_map(MapKind(kind));
        const Sorted sorted(map);
        for (uint32_t exponent = 0; exponent < 127; ++exponent) {
            for (int i = 0; i < 200; ++i) {
                uint32_t mantissa = random() & 0x7fffff;
                if (i == 0) mantissa = 0;
                if (i == 1) mantissa = 0x7fffff;
                const float x = std::bit_cast<float>(exponent << 23 | mantissa);
                expect_nearest(map, sorted, x);
                expect_nearest(map, sorted, -x);
            }
        }
        expect_nearest(map, sorted, 1.0f);
        if (map.kind != MapKind::kDynamicSigned && map.kind != MapKind::kDynamic4) {
            expect_nearest(map, sorted, -1.0f);
        }
    }
}

// 2^24 evenly spread bit patterns of (2^-32, 1]: the linear guess and its one comparison against
// counting midpoints.
void test_maps_dynamic_codes_count_midpoints() {
    for (MapKind kind : {MapKind::kDynamicSigned, MapKind::kDynamicUnsigned, MapKind::kDynamic4}) {
        const CodeMap &map = code_map(kind);
        int index = 0;
        for (uint32_t key = 95u << 23; key <= kOneKey; key += 13) {
            while (key > map.midpoint[index])
                ++index;
            const int got = int(encode(map, std::bit_cast<float>(key))) - map.zero_code;
            TARPON_EXPECT(got == index, "%s: bits %08x have index %d, not %d", kNames[int(kind)],
                          key, got, index);
            if (failures > 20) return;
        }
    }
}

void test_maps_zero_and_sign() {
    std::mt19937 random(11);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int kind = 0; kind < kMapKinds; ++kind) {
        const CodeMap &map = code_map(MapKind(kind));
        for (float zero : {0.0f, -0.0f}) {
            TARPON_EXPECT(decode(map, encode(map, zero)) == 0, "%s: zero becomes %g", kNames[kind],
                          decode(map, encode(map, zero)));
        }
        if (!map.is_signed || map.kind == MapKind::kNormalFloat4) continue;  // NF4 is lopsided
        const float largest = map.kind == MapKind::kDynamic4 ? 0.9f : 0.99f;
        for (int i = 0; i < 100000; ++i) {
            const float x = largest * uniform(random);
            const uint32_t code = encode(map, x);
            const float a = decode(map, code), b = decode(map, encode(map, -x));
            const bool on_midpoint = map.kind != MapKind::kLinear &&
                                     map.kind != MapKind::kFp8E4M3 &&
                                     std::count(std::begin(map.midpoint), std::end(map.midpoint),
                                                std::bit_cast<uint32_t>(x) & 0x7fffffff) > 0;
            TARPON_EXPECT(a == -b || on_midpoint, "%s: %.9g becomes %.9g and its negative %.9g",
                          kNames[kind], x, a, b);
        }
    }
}

// Every code is its own nearest code.
void test_maps_codes_round_trip() {
    for (int kind = 0; kind < kMapKinds; ++kind) {
        const CodeMap &map = code_map(MapKind(kind));
        for (auto [value, code] : Sorted(map).values) {
            TARPON_EXPECT(int(encode(map, value)) == code, "%s: code %d is %.9g and encodes to %u",
                          kNames[kind], code, value, encode(map, value));
        }
    }
    const CodeMap &fp8 = code_map(MapKind::kFp8E4M3);
    TARPON_EXPECT(fp8.value[0x7e] == 1.0f && fp8.value[0x01] == 0x1p-9f / 448.0f &&
                      fp8.value[0x38] == 1.0f / 448.0f,
                  "e4m3 448, 2^-9 and 1 read %.9g %.9g %.9g", fp8.value[0x7e], fp8.value[0x01],
                  fp8.value[0x38]);
}

void test_maps_equal_golden() {
    test::Golden golden;
    if (!golden.open("bnb_dynamic_maps.safetensors", __func__)) return;
    const char *const names[] = {"dynamic_signed", "dynamic_unsigned"};
    for (int kind = 0; kind < 2; ++kind) {
        const auto want = golden.get<float>(names[kind]);
        for (int i = 0; i < 256; ++i) {
            TARPON_EXPECT(code_map(MapKind(kind)).value[i] == want[i], "%s[%d] is %.9g, not %.9g",
                          names[kind], i, code_map(MapKind(kind)).value[i], want[i]);
        }
    }
}

// The reference's nearest codes, whose inputs hold every midpoint.
void test_maps_codes_equal_golden() {
    for (const char *data : {"normal", "lognormal", "zeros", "outlier", "mixedsign0"}) {
        const std::string file = std::string("bnb_blockwise_") + data + ".safetensors";
        test::Golden golden;
        if (!golden.open(file.c_str(), __func__)) return;
        for (int n : {1, 255, 256, 257, 4096, 100000}) {
            const std::string prefix = "n" + std::to_string(n) + ".";
            const auto x = golden.get<float>(prefix + "signed.x");
            for (int kind = 0; kind < 2; ++kind) {
                const CodeMap &map = code_map(MapKind(kind));
                const std::string key = prefix + (kind ? "unsigned" : "signed") + ".nearest.";
                const auto codes = golden.get<uint8_t>(key + "codes");
                const auto absmax = golden.get<float>(key + "absmax");
                for (int i = 0; i < n; ++i) {
                    const float input = kind ? std::abs(x[i]) : x[i];
                    const uint32_t code = encode(map, input * reciprocal_absmax(absmax[i / 256]));
                    TARPON_EXPECT(code == codes[i], "%s %s[%d] = %.9g: code %u, not %u", data,
                                  key.c_str(), i, input, code, codes[i]);
                }
            }
        }
    }
}

}  // namespace
}  // namespace tarpon::optim

int main() {
    using namespace tarpon::optim;
    test_maps_nearest_at_every_border();
    test_maps_nearest_in_every_binade();
    test_maps_dynamic_codes_count_midpoints();
    test_maps_zero_and_sign();
    test_maps_codes_round_trip();
    test_maps_equal_golden();
    test_maps_codes_equal_golden();
    std::printf(failures ? "%d FAILED\n" : "optim_maps_test: passed\n", failures);
    return failures != 0;
}
