// Arithmetic of single lanes: bitwise functions, byte permutes, packed pairs that round once.
#include <bit>
#include <cmath>

#include "sim/device_ops.h"

namespace tarpon::sim {
namespace {

// The nearest double that has its last bit set wherever it is not exact ("round to odd"), so that
// a second rounding to a format at least two bits shorter gives what one rounding would have given.
double add_round_odd(double x, double y) {
    const double sum = x + y;
    if (!std::isfinite(sum)) return sum;
    const double y_part = sum - x;
    const double error = (x - (sum - y_part)) + (y - y_part);
    const auto bits = std::bit_cast<uint64_t>(sum);
    if (error == 0 || bits & 1) return sum;
    const bool away_from_zero = (error > 0) == (sum > 0);
    return std::bit_cast<double>(away_from_zero ? bits + 1 : bits - 1);
}

float to_float_round_odd(double value) {
    float nearest = float(value);
    if (std::isnan(value) || double(nearest) == value) return nearest;
    if (std::fabs(double(nearest)) > std::fabs(value)) nearest = std::nextafter(nearest, 0.0f);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) | 1);
}

template <class T>
uint16_t fma_once(uint16_t a, uint16_t b, uint16_t c) {
    const double product = double(to_float(T{a})) * double(to_float(T{b}));  // exact
    return from_float<T>(to_float_round_odd(add_round_odd(product, to_float(T{c})))).bits;
}

}  // namespace

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, int lut) {
    uint32_t result = 0;
    for (int term = 0; term < 8; ++term) {
        if (!(lut >> term & 1)) continue;
        result |= (term & 4 ? a : ~a) & (term & 2 ? b : ~b) & (term & 1 ? c : ~c);
    }
    return result;
}

uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t bytes = uint64_t(b) << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const uint32_t nibble = selector >> (4 * i) & 15;
        uint32_t byte = uint32_t(bytes >> (8 * (nibble & 7))) & 0xff;
        if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= byte << (8 * i);
    }
    return result;
}

template <class T>
uint32_t fma2(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t low = fma_once<T>(uint16_t(a), uint16_t(b), uint16_t(c));
    const uint32_t high = fma_once<T>(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(c >> 16));
    return low | high << 16;
}
template uint32_t fma2<half_t>(uint32_t, uint32_t, uint32_t);
template uint32_t fma2<bf16_t>(uint32_t, uint32_t, uint32_t);

}  // namespace tarpon::sim
