// Fixed-seed random numbers, the same on every platform (the standard's distributions are not).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace tarpon::testing {

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t bits() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    // Uniform in [low, high], both included.
    int64_t integer(int64_t low, int64_t high) {
        return low + int64_t(bits() % uint64_t(high - low + 1));
    }
    // Uniform in [0, 1), and in [low, high).
    double uniform() { return double(bits() >> 11) * 0x1p-53; }
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    // Standard normal (Box-Muller).
    double normal() {
        const double radius = std::sqrt(-2 * std::log(1 - uniform()));
        return radius * std::cos(2 * std::numbers::pi * uniform());
    }

  private:
    uint64_t state_;
};

}  // namespace tarpon::testing
