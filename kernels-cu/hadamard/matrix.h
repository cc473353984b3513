// Which sizes the Hadamard transform takes, and the base matrices of those that are no power of
// two. Plain C++ shared by kernels, the CPU backend and the tests.
//
// H_n = B (x) H_p / sqrt(n), with n = base * p, p a power of two, H_p Sylvester's matrix in natural
// order (entry (i, j) is -1 to the number of bits that i and j share) and B a Hadamard matrix of
// order 1, 12, 20 or 28. All B are symmetric, so that H_n is its own inverse at every size: Paley's
// second construction over GF(q), q = 5, 9, 13 (Paley, "On orthogonal matrices", 1933).
#pragma once

#include <array>
#include <cstdint>

namespace tarpon::hadamard {

inline constexpr int64_t kMaxSize = 32768;
inline constexpr int kMaxBase = 28;

struct Size {
    int base;   // 1, 12, 20 or 28; 0 for a size that is not supported
    int power;  // n / base, a power of two
};

constexpr Size decompose(int64_t n) {
    if (n < 2 || n > kMaxSize) return {0, 0};
    const int odd = int(n / (n & -n));
    const int base = odd == 1 ? 1 : 4 * odd;
    if (odd > 7 || n % base != 0) return {0, 0};
    return {base, int(n / base)};
}

namespace detail {

// Elements of GF(9) are 3 * a + b for a * i + b with i * i = -1; those of GF(5), GF(13) are
// residues.
constexpr int gf_subtract(int q, int x, int y) {
    if (q != 9) return (x - y + q) % q;
    return (x / 3 - y / 3 + 3) % 3 * 3 + (x % 3 - y % 3 + 3) % 3;
}

constexpr int gf_square(int q, int x) {
    if (q != 9) return x * x % q;
    const int a = x / 3, b = x % 3;
    return 2 * a * b % 3 * 3 + (b * b - a * a + 9) % 3;
}

// The quadratic character: 0 of 0, 1 of squares, -1 of the rest.
constexpr int gf_character(int q, int x) {
    if (x == 0) return 0;
    for (int y = 1; y < q; ++y) {
        if (gf_square(q, y) == x) return 1;
    }
    return -1;
}

// Entry (i, j) of the symmetric conference matrix of order q + 1.
constexpr int conference(int q, int i, int j) {
    if (i == 0 || j == 0) return i == j ? 0 : 1;
    return gf_character(q, gf_subtract(q, i - 1, j - 1));
}

// Rows of B as masks: bit j of row i is set where the entry is -1.
constexpr std::array<uint32_t, kMaxBase> base_rows(int base) {
    std::array<uint32_t, kMaxBase> rows{};
    if (base == 1) return rows;
    const int q = base / 2 - 1;
    for (int i = 0; i < base; ++i) {
        for (int j = 0; j < base; ++j) {
            const int c = conference(q, i / 2, j / 2);
            const bool both_odd = i % 2 == 1 && j % 2 == 1;
            // 0 becomes [1 -1; -1 -1], c becomes c * [1 1; 1 -1].
            const int entry = c == 0 ? (i % 2 == 0 && j % 2 == 0 ? 1 : -1) : (both_odd ? -c : c);
            if (entry < 0) rows[i] |= 1u << j;
        }
    }
    return rows;
}

constexpr bool is_symmetric_hadamard(int base) {
    const auto rows = base_rows(base);
    for (int i = 0; i < base; ++i) {
        for (int j = 0; j < base; ++j) {
            int dot = 0;
            for (int k = 0; k < base; ++k)
                dot += ((rows[i] ^ rows[j]) >> k & 1) ? -1 : 1;
            if (dot != (i == j ? base : 0)) return false;
            if ((rows[i] >> j & 1) != (rows[j] >> i & 1)) return false;
        }
    }
    return true;
}
static_assert(is_symmetric_hadamard(12) && is_symmetric_hadamard(20) && is_symmetric_hadamard(28));

}  // namespace detail

inline constexpr std::array<uint32_t, kMaxBase> kBase12 = detail::base_rows(12);
inline constexpr std::array<uint32_t, kMaxBase> kBase20 = detail::base_rows(20);
inline constexpr std::array<uint32_t, kMaxBase> kBase28 = detail::base_rows(28);

// Rows of B for base 12, 20 or 28; null for base 1.
constexpr const uint32_t *base_rows(int base) {
    return base == 12   ? kBase12.data()
           : base == 20 ? kBase20.data()
           : base == 28 ? kBase28.data()
                        : nullptr;
}

}  // namespace tarpon::hadamard
