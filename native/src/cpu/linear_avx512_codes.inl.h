// From packed codes to the weights that AVX-512 kernels multiply: a Codes has
//   kUnitBytes, of one vector; kBias, of a code;
//   pairs(unit, j): rows 2*j and 2*j+1 of 16 columns as pairs of bfloat16, exactly;
//   floats(unit, j): the same as binary32.
// In an anonymous namespace, see linear_kernel.h, which draws the layout.
#pragma once

#include <immintrin.h>

#include "cpu/linear_kernel.h"

namespace tarpon::cpu {
namespace {

struct FloatPair {
    __m512 even, odd;
};

// A bfloat16 is the upper half of a binary32.
inline FloatPair widen(__m512i pairs) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(
                _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))))};
}

// Code - 8 by table. Entry c and entry c + 16 are bfloat16(c - 8): vpermw looks at 5 bits of each
// 16-bit lane; the fifth belongs to the next code, and with both halves equal it needs no mask.
class Int4Codes {
  public:
    static constexpr int kUnitBytes = kVectorBytes;
    static constexpr int kBias = 8;

    __m512i pairs(const uint8_t *unit, int j) const {
        const __m512i packed = _mm512_load_si512(unit);
        const __m512i index = _mm512_srli_epi16(packed, static_cast<unsigned>(4 * j));
        return _mm512_permutexvar_epi16(index, table_);
    }
    FloatPair floats(const uint8_t *unit, int j) const { return widen(pairs(unit, j)); }

  private:
    static __m512i load_table() {
        alignas(64) static constexpr uint16_t kTable[32] = {
            0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000,
            0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
            0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
        return _mm512_load_si512(kTable);
    }
    const __m512i table_ = load_table();
};

// Both upper halves, the even row's below the odd row's: exact for binary32 that are bfloat16.
class PairMerger {
  public:
    __m512i operator()(const FloatPair &pair) const {
        return _mm512_permutex2var_epi16(_mm512_castps_si512(pair.even), upper_halves_,
                                         _mm512_castps_si512(pair.odd));
    }

  private:
    static __m512i load_upper_halves() {
        alignas(64) static constexpr uint16_t kIndices[32] = {
            1,  33, 3,  35, 5,  37, 7,  39, 9,  41, 11, 43, 13, 45, 15, 47,
            17, 49, 19, 51, 21, 53, 23, 55, 25, 57, 27, 59, 29, 61, 31, 63};
        return _mm512_load_si512(kIndices);
    }
    const __m512i upper_halves_ = load_upper_halves();
};

// Codes - 128 in two's complement, of 8 bits, which fit a bfloat16.
class Int8Codes {
  public:
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;

    FloatPair floats(const uint8_t *unit, int j) const {
        return {row(unit + 2 * j * kLanes), row(unit + (2 * j + 1) * kLanes)};
    }
    __m512i pairs(const uint8_t *unit, int j) const { return merge_(floats(unit, j)); }

  private:
    static __m512 row(const uint8_t *codes) {
        const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i *>(codes));
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
    const PairMerger merge_;
};

// e4m3 in integers: shifted into place and with its exponent's bias of 7 made 127 a number is a
// bfloat16, but for those without an exponent, 0 to 7 times 2^-9, which come from a table.
class E4m3Codes {
  public:
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 0;

    __m512i pairs(const uint8_t *unit, int j) const {
        const auto *rows = reinterpret_cast<const __m256i *>(unit + 2 * j * kLanes);
        const __m512i wide = _mm512_cvtepi8_epi16(_mm256_load_si256(rows));
        const __mmask32 small = _mm512_testn_epi16_mask(wide, _mm512_set1_epi16(0x78));
        const __m512i shifted =
            _mm512_and_si512(_mm512_slli_epi16(wide, 4), _mm512_set1_epi16(0x7f0));
        const __m512i normal = _mm512_add_epi16(shifted, _mm512_set1_epi16(120 << 7));
        const __m512i magnitude = _mm512_mask_permutexvar_epi16(normal, small, wide, table_);
        constexpr int kAndThenOr = 0xea;  // (a & b) | c
        return _mm512_ternarylogic_epi32(wide, _mm512_set1_epi16(static_cast<short>(0x8000)),
                                         magnitude, kAndThenOr);
    }
    FloatPair floats(const uint8_t *unit, int j) const { return widen(pairs(unit, j)); }

  private:
    static __m512i load_table() {
        alignas(64) static constexpr uint16_t kTable[32] = {0x0000, 0x3b00, 0x3b80, 0x3bc0,
                                                            0x3c00, 0x3c20, 0x3c40, 0x3c60};
        return _mm512_load_si512(kTable);
    }
    const __m512i table_ = load_table();
};

}  // namespace
}  // namespace tarpon::cpu
