// The arithmetic of both modes of the cache: QK-norm, RoPE, rotation, the two quantisers. Plain C++
// shared by host and device, and the same bits on both: sums have a fixed order, and products are
// rounded before they are added (mul_rn, add_rn), which compilers are not allowed to contract.
//
// Mode `tarpon`: k' = H R(k - mean), v' = H v, with R the rotary embedding, H the orthonormal
// Hadamard matrix of head_dim and `mean` a calibrated mean of the key before R. A query is q' = H R
// q and needs no other change: q . R(k) = q' . k' + q . R(mean). One binary16 scale a token and
// head, no zero point: value = (code - (2^b - 1) / 2) * scale.
//
// Mode `rotatekv` (Su et al., "RotateKV", IJCAI 2025, sections 3.2-3.4; and the authors'
// simulation): the key before R is rotated over groups of heads, its channels are reordered over
// the whole layer, and groups of 128 are coded with scale and zero point; v' as above with scale
// and zero point: value = (code - zero) * scale. Tokens kept in 16 bits are R k and H v.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/types.h"
#include "hadamard/ref.h"
#include "kv_cache/format.h"

namespace tarpon::kv_cache {

TARPON_HOST_DEVICE float mul_rn(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

TARPON_HOST_DEVICE float add_rn(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

// ---- Rotary embedding -------------------------------------------------------------------------

enum class RopeLayout { kHalf, kInterleaved };

struct CosSin {
    float cos, sin;
};

// Angles of position p are those of its two digits of base 256, composed: tables of the digits stay
// in cache for any context, and every device gets the same bits.
inline constexpr int kRopeDigit = 256;

TARPON_HOST_DEVICE CosSin compose(CosSin a, CosSin b) {
    return {add_rn(mul_rn(a.cos, b.cos), -mul_rn(a.sin, b.sin)),
            add_rn(mul_rn(a.sin, b.cos), mul_rn(a.cos, b.sin))};
}

struct RopeTables {
    const CosSin *low;   // [256][pairs]: positions 0 .. 255
    const CosSin *high;  // [ceil(max_position / 256)][pairs]: positions 256 * i
    int pairs;           // channels that turn, halved
    RopeLayout layout;
};

TARPON_HOST_DEVICE CosSin rope_angle(const RopeTables &t, int position, int pair) {
    return compose(t.high[position / kRopeDigit * t.pairs + pair],
                   t.low[position % kRopeDigit * t.pairs + pair]);
}

// Channels of a pair.
TARPON_HOST_DEVICE int rope_first(const RopeTables &t, int pair) {
    return t.layout == RopeLayout::kHalf ? pair : 2 * pair;
}
TARPON_HOST_DEVICE int rope_second(const RopeTables &t, int pair) {
    return t.layout == RopeLayout::kHalf ? pair + t.pairs : 2 * pair + 1;
}

inline void rope(const RopeTables &t, int position, float *x) {
    for (int pair = 0; pair < t.pairs; ++pair) {
        const CosSin angle = rope_angle(t, position, pair);
        float &first = x[rope_first(t, pair)], &second = x[rope_second(t, pair)];
        const float a = first, b = second;
        first = add_rn(mul_rn(a, angle.cos), -mul_rn(b, angle.sin));
        second = add_rn(mul_rn(b, angle.cos), mul_rn(a, angle.sin));
    }
}

// The angle of a pair at a position, for filling tables: theta^(-pair / pairs) * position /
// scaling.
inline CosSin rope_table_entry(double theta, double scaling, int pairs, int64_t position,
                               int pair) {
    const double angle = double(position) / scaling * std::pow(theta, -double(pair) / pairs);
    return {float(std::cos(angle)), float(std::sin(angle))};
}

// ---- Norms of vectors -------------------------------------------------------------------------

// Sum of squares and largest magnitude of a vector of head_dim values (a multiple of 16): partial
// sums of channels equal modulo 16 in rising order, then halves onto halves.
struct Spread {
    float sum_squares, absmax;
};

inline float add_halves(float (&sums)[16]) {
    for (int h = 8; h > 0; h /= 2) {
        for (int i = 0; i < h; ++i)
            sums[i] = add_rn(sums[i], sums[i + h]);
    }
    return sums[0];
}

inline Spread spread(const float *x, int head_dim) {
    float sums[16] = {}, absmax = 0;
    for (int i = 0; i < head_dim; ++i) {
        sums[i % 16] = add_rn(sums[i % 16], mul_rn(x[i], x[i]));
        absmax = std::fabs(x[i]) > absmax ? std::fabs(x[i]) : absmax;
    }
    return {add_halves(sums), absmax};
}

// The factor of RMSNorm: 1 / sqrt(mean square + eps).
TARPON_HOST_DEVICE float norm_factor(float sum_squares, int head_dim, float eps) {
    return 1.0f / sqrtf(add_rn(sum_squares / float(head_dim), eps));
}

// QK-norm of a head's vector, before RoPE.
inline void rms_norm(const float *weight, float eps, int head_dim, float *x) {
    const float factor = norm_factor(spread(x, head_dim).sum_squares, head_dim, eps);
    for (int i = 0; i < head_dim; ++i)
        x[i] = mul_rn(mul_rn(x[i], factor), weight[i]);
}

// ---- Mode tarpon: a grid around zero ----------------------------------------------------------

// Codes and scale of a vector are chosen together. Of two steps the one whose codes can come closest
// to the vector makes the codes; and what is stored is not the step, but the scale that fits these
// codes best. It is the factor by which least squares turn levels into values, so what is lost is at
// right angles to what is kept: errors of many tokens average out in attention's sums, where values
// that are all too small or too large would not.

// Step of the uniform grid with 2^bits levels that codes a standard normal with the least mean
// squared error (J. Max, "Quantizing for minimum distortion", 1960, table II).
TARPON_HOST_DEVICE float gaussian_step(int bits) {
    return bits == 2 ? 0.9957f : bits == 3 ? 0.5860f : 0.3352f;
}

// The steps to choose from, in binary16, at most 65504: the first reaches the largest value, the
// second clips the tails of a Gaussian, which pays up to 4 bits.
inline constexpr int kGridSteps = 2;

TARPON_HOST_DEVICE half_t grid_step(Spread s, int head_dim, int bits, int which) {
    const float step = which == 0 || bits > 4
                           ? s.absmax / float(1 << (bits - 1))
                           : mul_rn(gaussian_step(bits), sqrtf(s.sum_squares / float(head_dim)));
    return from_float<half_t>(step < 65504.0f ? step : 65504.0f);
}

TARPON_HOST_DEVICE float grid_inverse(half_t scale) {
    const float step = to_float(scale);
    return step > 0 ? 1.0f / step : 0.0f;
}

TARPON_HOST_DEVICE uint32_t grid_code(float x, float inverse, int bits) {
    const float half = float(1 << (bits - 1));
    const float level = floorf(mul_rn(x, inverse)) + half;
    return uint32_t(level < 0 ? 0.0f : level > 2 * half - 1 ? 2 * half - 1 : level);
}

// The factor of the scale that a code stands for.
TARPON_HOST_DEVICE float grid_level(uint32_t code, int bits) {
    return float(int(code)) - (float(1 << (bits - 1)) - 0.5f);
}

// Sums over a vector: of its values times the levels of their codes, and of these levels squared (a
// whole number of quarters below 2^24: exact in any order).
struct GridFit {
    float dot, square;
};

// By how much a vector's sum of squares shrinks when the levels, times the best scale, are taken off.
TARPON_HOST_DEVICE float grid_gain(GridFit fit) {
    return fit.dot > 0 ? mul_rn(fit.dot, fit.dot) / fit.square : 0.0f;
}

// The best scale, in binary16, at most 65504. (Codes follow the values' signs unless the step is 0,
// where dot may be negative.)
TARPON_HOST_DEVICE half_t grid_scale(GridFit fit) {
    const float scale = fit.dot > 0 ? fit.dot / fit.square : 0.0f;
    return from_float<half_t>(scale < 65504.0f ? scale : 65504.0f);
}

// dot is summed in the order of spread().
inline GridFit grid_fit(const float *x, int head_dim, half_t step, int bits) {
    const float inverse = grid_inverse(step);
    float dots[16] = {}, square = 0;
    for (int i = 0; i < head_dim; ++i) {
        const float level = grid_level(grid_code(x[i], inverse, bits), bits);
        dots[i % 16] = add_rn(dots[i % 16], mul_rn(x[i], level));
        square += level * level;
    }
    return {add_halves(dots), square};
}

// The step of a vector's codes, and its scale. Of equal gains the first counts.
struct Grid {
    half_t step, scale;
};

inline Grid choose_grid(const float *x, int head_dim, int bits) {
    const Spread s = spread(x, head_dim);
    Grid best{};
    float most = -1;
    for (int which = 0; which < kGridSteps; ++which) {
        const half_t step = grid_step(s, head_dim, bits, which);
        const GridFit fit = grid_fit(x, head_dim, step, bits);
        if (grid_gain(fit) > most) {
            most = grid_gain(fit);
            best = {step, grid_scale(fit)};
        }
    }
    return best;
}

// Width 16: the value in binary16, kept finite.
TARPON_HOST_DEVICE half_t saturate_half(float x) {
    return from_float<half_t>(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
}

// ---- Mode rotatekv: minimum and maximum -------------------------------------------------------

// Heads that are rotated together.
TARPON_HOST_DEVICE int rotatekv_group_heads(int kv_heads) {
    return kv_heads % 4 == 0 ? 4 : kv_heads % 2 == 0 ? 2 : 1;
}

// By how much the range of a group is shrunk.
TARPON_HOST_DEVICE float rotatekv_clip(int bits) {
    return bits == 2 ? 0.8f : 1.0f;
}

struct AsymmetricCode {
    float scale, zero;
};

// From the least and the largest value of a group, times the clip. The zero point is a whole
// number, not clamped to the codes.
TARPON_HOST_DEVICE AsymmetricCode asymmetric_range(float low, float high, int bits) {
    const float scale = add_rn(high, -low) / float((1 << bits) - 1);
    return {scale, scale > 0 ? rintf(-low / scale) : 0.0f};
}

inline AsymmetricCode asymmetric_range(const float *x, int count, int bits, float clip) {
    float low = x[0], high = x[0];
    for (int i = 1; i < count; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    return asymmetric_range(mul_rn(low, clip), mul_rn(high, clip), bits);
}

TARPON_HOST_DEVICE uint32_t asymmetric_code(float x, AsymmetricCode range, int bits) {
    const float top = float((1 << bits) - 1);
    if (!(range.scale > 0)) return 0;
    const float code = add_rn(rintf(x / range.scale), range.zero);
    return uint32_t(code < 0 ? 0.0f : code > top ? top : code);
}

TARPON_HOST_DEVICE float asymmetric_value(uint32_t code, AsymmetricCode range) {
    return mul_rn(add_rn(float(int(code)), -range.zero), range.scale);
}

// In pages scale and zero point are binary16. Codes are made with the scale before rounding, as the
// publication's are, and with the zero point after it (which is the same up to 2048).
struct StoredRange {
    half_t scale, zero;
};

TARPON_HOST_DEVICE StoredRange stored_range(AsymmetricCode range) {
    return {saturate_half(range.scale), saturate_half(range.zero)};
}

// Rotates all keys of a token [kv_heads * head_dim] before RoPE, in groups of `group_heads` heads,
// and reorders them: out[c] = rotated[order[c]].
inline void rotatekv_transform(const float *keys, const int32_t *order, int kv_heads, int head_dim,
                               int group_heads, float *rotated, float *out) {
    const int channels = kv_heads * head_dim;
    for (int i = 0; i < channels; ++i)
        rotated[i] = keys[i];
    for (int i = 0; i < channels; i += group_heads * head_dim)
        hadamard::transform_reference(rotated + i, group_heads * head_dim);
    for (int i = 0; i < channels; ++i)
        out[i] = rotated[order[i]];
}

// The inverse. T is float or double.
template <class T>
void rotatekv_recover(const T *values, const int32_t *order, int kv_heads, int head_dim,
                      int group_heads, T *keys) {
    const int channels = kv_heads * head_dim;
    for (int i = 0; i < channels; ++i)
        keys[order[i]] = values[i];
    for (int i = 0; i < channels; i += group_heads * head_dim)
        hadamard::transform_reference(keys + i, group_heads * head_dim);
}

}  // namespace tarpon::kv_cache
