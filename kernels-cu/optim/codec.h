// What quantised states need beyond the code maps: the power of FP8's dynamic-range expansion, and
// stochastic rounding. Templates over a lane type where the CPU's vector paths use them.
//
// Dynamic-range expansion (Xi et al., "COAT: Compressing Optimizer States and Activations for
// Memory-Efficient FP8 Training", section 4.1): a group of 128 values whose magnitudes span less
// than E4M3 does is stretched by a power before it is rounded. Of the paper's s = sqrt(max * min)
// and sigma only the largest magnitude remains, because s cancels:
//     code = e4m3(448 * (|x| / max)^k),  |x| = max * (code / 448)^(1/k)
//     k = floor(16 * log2(448^2 / 2) / log2(max / min)) / 16, of the magnitudes that are not zero
#pragma once

#include "optim/config.h"
#include "optim/lanes.h"
#include "optim/maps.h"

namespace tarpon::optim {

namespace lanes {

// log2 of a positive normal x, within 2 ulp, or 1e-7 near 1. Reduced to mantissas in
// [1/sqrt(2), sqrt(2)), then 2 atanh(t) with t = (m - 1) / (m + 1).
template <class F>
TARPON_HOST_DEVICE F log2(F x) {
    const F kRootTwo(1.41421356f);
    const F whole = mantissa(x);
    const F m = select_less(whole, kRootTwo, whole, whole * F(0.5f));
    const F e = select_less(whole, kRootTwo, exponent(x), exponent(x) + F(1.0f));
    const F t = (m - F(1.0f)) / (m + F(1.0f));
    const F t2 = t * t;
    F series = fma(t2, F(0.320598897f), F(0.412198583f));  // 2 / (ln 2 * 9), 2 / (ln 2 * 7)
    series = fma(series, t2, F(0.577078016f));
    series = fma(series, t2, F(0.961796694f));
    series = fma(series, t2, F(2.88539008f));
    return fma(t, series, e);
}

// 2^x, within 3e-7, for results in [2^-126, 2^127].
template <class F>
TARPON_HOST_DEVICE F exp2(F x) {
    const F n = round_to_integer(x);
    const F f = x - n;
    F series = fma(f, F(1.54035304e-4f), F(1.33335581e-3f));  // ln(2)^6 / 6!, ln(2)^5 / 5!
    series = fma(series, f, F(9.61812911e-3f));
    series = fma(series, f, F(5.55041087e-2f));
    series = fma(series, f, F(2.40226507e-1f));
    series = fma(series, f, F(6.93147181e-1f));
    series = fma(series, f, F(1.0f));
    return scale_by_power_of_two(series, n);
}

// |x|^power with the sign of x, for |x| <= 1, give or take rounding; magnitudes below 2^-100, or
// whose powers are, become zero.
template <class F>
TARPON_HOST_DEVICE F signed_power(F x, F power) {
    const F kTiny(0x1p-100f), kLogTiny(-100.0f);
    const F magnitude = abs(x);
    const F log = power * log2(max(magnitude, kTiny));
    const F raised = select_less(log, kLogTiny, F(0.0f), exp2(max(log, kLogTiny)));
    return copy_sign(select_less(magnitude, kTiny, F(0.0f), raised), x);
}

}  // namespace lanes

// What is stored for a group, in this order.
struct Fp8Group {
    float absmax;
    float power;  // k; 1 for a group of zeros
};

inline constexpr float kMinPower = 1.0f / 16, kMaxPower = 16.0f;

// absmax and smallest: the largest magnitude, and the smallest that is not zero.
TARPON_HOST_DEVICE Fp8Group fp8_group(float absmax, float smallest) {
    if (!(absmax >= 0x1p-126f)) return {absmax, 1.0f};  // zeros, or a NaN, which stays visible
    if (!(absmax < 0x1p127f)) return {absmax, 1.0f};
    const float kRange = 16.6147098f;  // log2(448^2 / 2)
    const float span =
        lanes::log2(absmax) - lanes::log2(smallest > 0x1p-126f ? smallest : 0x1p-126f);
    const float k = span > 0 ? kRange / span : kMaxPower;
    const float clamped = k < kMinPower ? kMinPower : k > kMaxPower ? kMaxPower : k;
    return {absmax, float(int(16.0f * clamped)) / 16.0f};
}

// ---- Stochastic rounding

// The random stream of one step of one tensor.
struct RandomKey {
    uint32_t low, high;
};

TARPON_HOST_DEVICE uint64_t mix64(uint64_t x) {  // the finaliser of SplitMix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// stream: 0 for the parameter, 1 + slot for a state.
TARPON_HOST_DEVICE RandomKey random_key(uint64_t seed, int64_t step, int64_t tensor, int stream) {
    const uint64_t where = uint64_t(tensor) * 4 + uint64_t(stream);
    const uint64_t key = mix64(mix64(mix64(seed + 0x9e3779b97f4a7c15u) + uint64_t(step)) + where);
    return {uint32_t(key), uint32_t(key >> 32)};
}

// 32 random bits for element `index`, whatever the order in which elements are visited.
TARPON_HOST_DEVICE uint32_t random_bits(RandomKey key, int64_t index) {
    uint32_t x = uint32_t(index) ^ key.low;
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x += key.high + uint32_t(index >> 32) * 0x9e3779b9u;
    x *= 0x735a2d97u;
    x ^= x >> 15;
    x *= 0x21f0aaadu;
    return x ^ (x >> 16);
}

// Up with a probability of the discarded part. Infinities and NaN stay what they are; the largest
// finite values may become infinity, as they may to nearest.
TARPON_HOST_DEVICE bf16_t bf16_stochastic(float x, uint32_t random) {
    const uint32_t bits = lanes::as_bits(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return from_float<bf16_t>(x);
    return {uint16_t((bits + (random & 0xffffu)) >> 16)};
}

// One of the two codes around x, the nearer one with the higher probability, so that the mean is
// x. For the dynamic maps and e4m3; x as for encode().
TARPON_HOST_DEVICE uint32_t encode_stochastic(const CodeMap &map, float x, uint32_t random) {
    const bool by_magnitude = map.kind == MapKind::kFp8E4M3;
    const float target = by_magnitude ? lanes::abs(x) : x;
    const uint32_t nearest = encode(map, target);
    const float value = map.value[nearest];
    const uint32_t last = by_magnitude ? 126u : 255u;
    const uint32_t sign = by_magnitude ? lanes::as_bits(x) >> 31 << 7 : 0u;
    if (value == target || (target > value ? nearest == last : nearest == 0)) return sign | nearest;
    const uint32_t other = target > value ? nearest + 1 : nearest - 1;
    const float share = (target - value) / (map.value[other] - value);  // 0 .. 1/2
    const float draw = float(random >> 8) * 0x1p-24f;
    return sign | (draw < share ? other : nearest);
}

}  // namespace tarpon::optim
