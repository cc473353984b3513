// From packed codes to the weights that AVX-512 kernels multiply: a Codes has
//   kUnitBytes, of one vector; kBias, of a code; kFactor, what sums are to be multiplied by;
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
    static constexpr float kFactor = 1.0f;

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

// Code - 128 by way of 2^23 + code, which has the code in its lowest bits. 8 bits fit a bfloat16.
class Int8Codes {
  public:
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 128;
    static constexpr float kFactor = 1.0f;

    FloatPair floats(const uint8_t *unit, int j) const {
        const __m512i lanes = _mm512_load_si512(unit + j % 2 * kVectorBytes);
        return {byte(lanes, j / 2), byte(lanes, 2 + j / 2)};
    }
    __m512i pairs(const uint8_t *unit, int j) const {
        const FloatPair pair = floats(unit, j);
        return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(pair.even), 16),
                               _mm512_castps_si512(pair.odd));
    }

  private:
    static __m512 byte(__m512i lanes, int i) {
        const __m512i shifted = _mm512_srli_epi32(lanes, static_cast<unsigned>(8 * i));
        constexpr int kAndThenOr = 0xea;  // (a & b) | c
        const __m512i bits = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi32(255),
                                                       _mm512_set1_epi32(0x4b000000), kAndThenOr);
        return _mm512_sub_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(8388608.0f + 128.0f));
    }
};

// An e4m3 number shifted into place is a binary16 number of its 2^-8: 7 is the one's bias, 15 the
// other's. Subnormals are right too, and vcvtph2ps heeds no flush-to-zero mode.
class E4m3Codes {
  public:
    static constexpr int kUnitBytes = 2 * kVectorBytes;
    static constexpr int kBias = 0;
    static constexpr float kFactor = 256.0f;

    __m512i pairs(const uint8_t *unit, int j) const {
        const __m512i lanes = _mm512_load_si512(unit + j % 2 * kVectorBytes);
        const __m512i top = j / 2 ? lanes : _mm512_slli_epi16(lanes, 8);
        const __m512i half = _mm512_and_si512(_mm512_srai_epi16(top, 1),
                                              _mm512_set1_epi16(static_cast<short>(0xbf80)));
        const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
        const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
        return _mm512_permutex2var_epi16(_mm512_castps_si512(low), upper_halves_,
                                         _mm512_castps_si512(high));
    }
    FloatPair floats(const uint8_t *unit, int j) const { return widen(pairs(unit, j)); }

  private:
    static __m512i load_upper_halves() {
        alignas(64) static constexpr uint16_t kIndices[32] = {
            1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
            33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
        return _mm512_load_si512(kIndices);
    }
    const __m512i upper_halves_ = load_upper_halves();
};

}  // namespace
}  // namespace tarpon::cpu
