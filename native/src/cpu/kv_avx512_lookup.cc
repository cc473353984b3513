// Scores of 2-bit K codes by table: two codes are an index of four bits, and vpermw looks up what
// 32 pairs of channels add to the score, 64 products in one instruction where an integer dot
// product of 16-bit queries takes two. Needs AVX-512 BW.
//
// A tile's word holds 16 channels of a token, as two 16-bit lanes of eight channels, four lookups
// each. A table has 32 whole numbers of 16 bits, those of the lower lanes' pair of channels, then
// those of the upper lanes'; bit 4 of an index says which lane it is in. Two words add up in 16
// bits, then in 32. Entries are rounded to 2^-15 of the largest such sum: an error in scores of
// about 2^-12 of their spread.
#include <immintrin.h>

#include "cpu/kv_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kWordChannels = 16, kLookups = 4;
constexpr int kSumWords = 2;          // that fit 16 bits together
constexpr float kLargestSum = 32700;  // and 67 for roundings

// What the 16 values of a pair of codes, the first in bits 0 and 1, add to a score.
__m512 pair_entries(const float *q) {
    const __m512 first = _mm512_setr_ps(-1.5f, -.5f, .5f, 1.5f, -1.5f, -.5f, .5f, 1.5f, -1.5f, -.5f,
                                        .5f, 1.5f, -1.5f, -.5f, .5f, 1.5f);
    const __m512 second = _mm512_setr_ps(-1.5f, -1.5f, -1.5f, -1.5f, -.5f, -.5f, -.5f, -.5f, .5f,
                                         .5f, .5f, .5f, 1.5f, 1.5f, 1.5f, 1.5f);
    return _mm512_fmadd_ps(_mm512_set1_ps(q[0]), first,
                           _mm512_mul_ps(_mm512_set1_ps(q[1]), second));
}

// Largest sum that a 16-bit lane can come to: of 1.5 |q| over its channels of two words.
float largest_sum(const float *q, int head_dim) {
    float largest = 0;
    for (int i = 0; i < head_dim; i += kSumWords * kWordChannels) {
        const __m512 a = _mm512_abs_ps(_mm512_loadu_ps(q + i)),
                     b = _mm512_abs_ps(_mm512_loadu_ps(q + i + kWordChannels));
        const __m512 both = _mm512_add_ps(a, b);
        const float lower = _mm512_mask_reduce_add_ps(0x00ff, both),
                    upper = _mm512_mask_reduce_add_ps(0xff00, both);
        largest = lower > largest ? lower : largest;
        largest = upper > largest ? upper : largest;
    }
    return 1.5f * largest;
}

// Packed: the scale, and from float 16 on the tables, [head_dim / 16][kLookups].
void pack(const KvPackArgs &a) {
    const float largest = largest_sum(a.q, a.head_dim);
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? kLargestSum / largest : 0.0f);
    a.packed[0] = largest / kLargestSum;
    auto *table = reinterpret_cast<__m256i *>(a.packed + 16);
    for (int word = 0; word < a.head_dim / kWordChannels; ++word) {
        for (int i = 0; i < kLookups; ++i) {
            for (int lane = 0; lane < 2; ++lane, ++table) {
                const __m512 entries =
                    pair_entries(a.q + word * kWordChannels + lane * kWordChannels / 2 + 2 * i);
                _mm256_storeu_si256(
                    table,
                    _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(entries, inverse))));
            }
        }
    }
}

template <int kRows, int kTiles>
void score_tiles(const KvScoreArgs &a, int tile, float *scores) {
    const int words = a.head_dim / kWordChannels;
    const uint8_t *codes = a.codes + int64_t{64} * tile * words;
    const auto *tables = reinterpret_cast<const char *>(a.packed + 16);
    const __m512i nibbles = _mm512_set1_epi32(0x000f000f), upper = _mm512_set1_epi32(0x00100000);
    __m512i sums[kTiles][kRows];
    for (int t = 0; t < kTiles; ++t) {
        for (int row = 0; row < kRows; ++row)
            sums[t][row] = _mm512_setzero_si512();
    }
    for (int first = 0; first < words; first += kSumWords) {
        __m512i part[kTiles][kRows];
#pragma GCC unroll 2
        for (int w = 0; w < kSumWords; ++w) {
            __m512i word[kTiles];
            for (int t = 0; t < kTiles; ++t)
                word[t] = _mm512_loadu_si512(codes + 64 * (t * words + first + w));
#pragma GCC unroll 4
            for (int i = 0; i < kLookups; ++i) {
                __m512i index[kTiles];
                for (int t = 0; t < kTiles; ++t) {
                    // (word >> 4i & nibbles) | upper
                    index[t] = _mm512_ternarylogic_epi32(_mm512_srli_epi32(word[t], 4 * i), nibbles,
                                                         upper, 0xea);
                }
#pragma GCC unroll 8
                for (int row = 0; row < kRows; ++row) {
                    const __m512i table = _mm512_load_si512(tables + row * a.q_stride * 4 +
                                                            64 * ((first + w) * kLookups + i));
                    for (int t = 0; t < kTiles; ++t) {
                        const __m512i found = _mm512_permutexvar_epi16(index[t], table);
                        part[t][row] = w + i == 0 ? found : _mm512_add_epi16(part[t][row], found);
                    }
                }
            }
        }
        for (int t = 0; t < kTiles; ++t) {
            for (int row = 0; row < kRows; ++row) {
                sums[t][row] = _mm512_add_epi32(
                    sums[t][row], _mm512_madd_epi16(part[t][row], _mm512_set1_epi16(1)));
            }
        }
    }
    for (int t = 0; t < kTiles; ++t) {
        const __m512 scale = _mm512_cvtph_ps(
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.scales + (tile + t) * kKvTile)));
        for (int row = 0; row < kRows; ++row) {
            const __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(a.packed[row * a.q_stride]));
            _mm512_storeu_ps(scores + row * a.score_stride + t * kKvTile,
                             _mm512_mul_ps(_mm512_cvtepi32_ps(sums[t][row]), unit));
        }
    }
}

// Up to four rows take two tiles at a time, so that a table is loaded once for both.
template <int kRows>
void score_rows(const KvScoreArgs &a) {
    int t = 0;
    for (; kRows <= 4 && t + 2 <= a.tiles; t += 2)
        score_tiles<kRows, 2>(a, a.first_tile + t, a.scores + t * kKvTile);
    for (; t < a.tiles; ++t)
        score_tiles<kRows, 1>(a, a.first_tile + t, a.scores + t * kKvTile);
}

void score(const KvScoreArgs &a) {
    constexpr void (*by_rows[kKvRows])(const KvScoreArgs &) = {
        score_rows<1>, score_rows<2>, score_rows<3>, score_rows<4>,
        score_rows<5>, score_rows<6>, score_rows<7>, score_rows<8>};
    by_rows[a.rows - 1](a);
}

}  // namespace

const KvLookupKernels kAvx512LookupKv{pack, score};

}  // namespace tarpon::cpu
