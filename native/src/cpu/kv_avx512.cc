// KV attention in AVX-512 F/BW/DQ/VL, straight from the packed codes: a permute of a table of 16
// levels turns 16 codes into floats without masks, since the index is the low four bits of a lane.
//
// Scores: lanes are the 16 tokens of a tile; a word of the tile gives its channels one after the
// other by shifts. Values: lanes are channels, a token after the other.
#include <immintrin.h>

#include <cmath>

#include "cpu/kv_ahead.inl.h"
#include "cpu/kv_kernel.h"
#include "cpu/kv_rotatekv.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kBits[kKvWidths] = {2, 3, 4, 8, 16};

// The levels of a width, repeated so that bits above it do not matter.
template <int kWidth>
__m512 level_table() {
    constexpr int bits = kBits[kWidth];
    static_assert(bits <= 4);
    alignas(64) float levels[16];
    for (int i = 0; i < 16; ++i)
        levels[i] =
            static_cast<float>(i % (1 << bits)) - (static_cast<float>(1 << (bits - 1)) - 0.5f);
    return _mm512_load_ps(levels);
}

__m512 byte_level(__m512i words) {
    const __m512i code = _mm512_and_si512(words, _mm512_set1_epi32(255));
    return _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(127.5f));
}

__m512 low_half(__m512i words) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}

// Codes of width 3 as table indices: two bits from `lower`, the third at bit 2 of `upper`.
__m512i join3(__m512i lower, __m512i upper) {
    return _mm512_ternarylogic_epi32(_mm512_set1_epi32(3), lower, upper, 0xca);
}

// ---- Scores

template <int kRows>
struct RowSums {
    __m512 sum[kRows];

    void add(const float *q, int64_t stride, __m512 level) {
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row)
            sum[row] = _mm512_fmadd_ps(_mm512_set1_ps(q[row * stride]), level, sum[row]);
    }
};

template <int kWidth, int kRows>
void score_tile(const KvScoreArgs &a, int tile, float *scores) {
    constexpr int bits = kBits[kWidth], plane_bits = bits == 3 ? 2 : bits;
    constexpr int per_word = 32 / plane_bits;
    const int words = a.head_dim / per_word;
    const auto *plane = reinterpret_cast<const __m512i *>(a.codes) + int64_t{tile} * words;
    RowSums<kRows> rows;
    for (int row = 0; row < kRows; ++row)
        rows.sum[row] = _mm512_setzero_ps();
    const float *q = a.q;
    if constexpr (bits <= 4) {
        const __m512 table = level_table<kWidth>();
        const auto *upper =
            reinterpret_cast<const __m512i *>(a.codes + a.page_tokens * a.head_dim / 4) +
            int64_t{tile} * (words / 2);
        for (int w = 0; w < words; ++w) {
            __m512i word = _mm512_loadu_si512(plane + w), top{};
            if constexpr (bits == 3) {
                top = _mm512_loadu_si512(upper + w / 2);
                top = _mm512_slli_epi32(w % 2 ? _mm512_srli_epi32(top, 16) : top, 2);
            }
#pragma GCC unroll 16
            for (int i = 0; i < per_word; ++i, ++q) {
                const __m512i index = bits == 3 ? join3(word, top) : word;
                rows.add(q, a.q_stride, _mm512_permutexvar_ps(index, table));
                word = _mm512_srli_epi32(word, plane_bits);
                if constexpr (bits == 3) top = _mm512_srli_epi32(top, 1);
            }
        }
    } else {
        for (int w = 0; w < words; ++w) {
            __m512i word = _mm512_loadu_si512(plane + w);
#pragma GCC unroll 4
            for (int i = 0; i < per_word; ++i, ++q) {
                rows.add(q, a.q_stride, byte_level(word));
                word = _mm512_srli_epi32(word, bits);
            }
        }
    }
    const __m512 scale = _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.scales + tile * kKvTile)));
    for (int row = 0; row < kRows; ++row)
        _mm512_storeu_ps(scores + row * a.score_stride, _mm512_mul_ps(rows.sum[row], scale));
}

// Width 16: a word has two channels of a token, so that lanes of a converted half vector take turns
// between two channels of eight tokens, and queries are broadcast in pairs.
template <int kRows>
void score_halves(const KvScoreArgs &a, int tile, float *scores) {
    const int words = a.head_dim / 2;
    const uint8_t *codes = a.codes + int64_t{64} * tile * words;
    __m512 low[kRows], high[kRows];
    for (int row = 0; row < kRows; ++row)
        low[row] = high[row] = _mm512_setzero_ps();
    const auto load = [](const uint8_t *from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
    };
    for (int w = 0; w < words; ++w, codes += 64) {
        __builtin_prefetch(codes + int64_t{64} * words, 0, 2);  // the next tile
        const __m512 first = load(codes), last = load(codes + 32);
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
            double pair;
            __builtin_memcpy(&pair, a.q + row * a.q_stride + 2 * w, sizeof pair);
            const __m512 q = _mm512_castpd_ps(_mm512_set1_pd(pair));
            low[row] = _mm512_fmadd_ps(q, first, low[row]);
            high[row] = _mm512_fmadd_ps(q, last, high[row]);
        }
    }
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int row = 0; row < kRows; ++row) {
        _mm512_storeu_ps(scores + row * a.score_stride,
                         _mm512_add_ps(_mm512_permutex2var_ps(low[row], even, high[row]),
                                       _mm512_permutex2var_ps(low[row], odd, high[row])));
    }
}

template <int kWidth, int kRows>
void score_rows(const KvScoreArgs &a) {
    for (int t = 0; t < a.tiles; ++t) {
        if constexpr (kBits[kWidth] == 16) {
            score_halves<kRows>(a, a.first_tile + t, a.scores + t * kKvTile);
        } else {
            score_tile<kWidth, kRows>(a, a.first_tile + t, a.scores + t * kKvTile);
        }
    }
}

template <int kWidth>
void score(const KvScoreArgs &a) {
    constexpr void (*by_rows[kKvRows])(const KvScoreArgs &) = {
        score_rows<kWidth, 1>, score_rows<kWidth, 2>, score_rows<kWidth, 3>, score_rows<kWidth, 4>,
        score_rows<kWidth, 5>, score_rows<kWidth, 6>, score_rows<kWidth, 7>, score_rows<kWidth, 8>};
    by_rows[a.rows - 1](a);
}

// ---- The mean's share

// Rows from `first_row` on, all tiles.
template <int kRows, int kTiles>
void mean_rows(const KvMeanArgs &m, int first_row) {
    const float *a = m.a + first_row * m.stride, *b = m.b + first_row * m.stride;
    float *scores = m.scores + first_row * m.score_stride;
    __m512 sum[kRows][kTiles];
    for (int row = 0; row < kRows; ++row) {
        const __m512 constant = _mm512_set1_ps(m.constant[(first_row + row) * m.stride]);
        for (int t = 0; t < kTiles; ++t) {
            sum[row][t] = _mm512_add_ps(
                _mm512_loadu_ps(scores + row * m.score_stride + t * kKvTile), constant);
        }
    }
    // Queries turned to the first position, 16 pairs at a time, pairs beyond the last zero.
    alignas(64) float turned[2][kRows][16];
    for (int first = 0; first < m.pairs; first += 16) {
        const int left = m.pairs - first;
        const __mmask16 mask = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xffff);
        const __m512 c = _mm512_maskz_loadu_ps(mask, m.start_cos + first);
        const __m512 s = _mm512_maskz_loadu_ps(mask, m.start_sin + first);
        for (int row = 0; row < kRows; ++row) {
            const __m512 x = _mm512_maskz_loadu_ps(mask, a + row * m.stride + first);
            const __m512 y = _mm512_maskz_loadu_ps(mask, b + row * m.stride + first);
            _mm512_store_ps(turned[0][row], _mm512_fmadd_ps(y, s, _mm512_mul_ps(x, c)));
            _mm512_store_ps(turned[1][row], _mm512_fmsub_ps(y, c, _mm512_mul_ps(x, s)));
        }
        for (int i = 0; i < (left < 16 ? left : 16); ++i) {
            const int step = m.pair_index[first + i] * kKvSteps;
#pragma GCC unroll 2
            for (int part = 0; part < 2; ++part) {
                const float *steps = (part == 0 ? m.step_cos : m.step_sin) + step;
#pragma GCC unroll 4
                for (int row = 0; row < kRows; ++row) {
                    const __m512 x = _mm512_set1_ps(turned[part][row][i]);
#pragma GCC unroll 4
                    for (int t = 0; t < kTiles; ++t) {
                        sum[row][t] =
                            _mm512_fmadd_ps(x, _mm512_loadu_ps(steps + t * kKvTile), sum[row][t]);
                    }
                }
            }
        }
    }
    for (int row = 0; row < kRows; ++row) {
        for (int t = 0; t < kTiles; ++t)
            _mm512_storeu_ps(scores + row * m.score_stride + t * kKvTile, sum[row][t]);
    }
}

// Rows by fours and up to four tiles: 16 vectors of sums stay in registers.
template <int kTiles>
void mean_tiles(const KvMeanArgs &m) {
    constexpr void (*by_rows[4])(const KvMeanArgs &, int) = {
        mean_rows<1, kTiles>, mean_rows<2, kTiles>, mean_rows<3, kTiles>, mean_rows<4, kTiles>};
    for (int row = 0; row < m.rows; row += 4)
        by_rows[(m.rows - row < 4 ? m.rows - row : 4) - 1](m, row);
}

void mean(const KvMeanArgs &m) {
    constexpr void (*by_tiles[kKvSteps / kKvTile])(const KvMeanArgs &) = {
        mean_tiles<1>, mean_tiles<2>, mean_tiles<3>, mean_tiles<4>};
    by_tiles[m.tiles - 1](m);
}

// ---- Values

// The levels of 64 channels (a pair of chunks) of a token: vector i has in its lower half channels
// 8i .. 8i+7 of the first chunk and in its upper half those of the second.
template <int kWidth>
struct ChunkPair {
    static constexpr int kBitsOf = kBits[kWidth], kPlaneBits = kBitsOf == 3 ? 2 : kBitsOf;
    __m512i words, top;

    // Where a head ends between the two, the upper half is whatever follows in the page.
    ChunkPair(const KvValueArgs &a, const uint8_t *codes, int token, int pair) {
        const uint8_t *at = codes + (int64_t{token} * a.head_dim + 64 * pair) * kPlaneBits / 8;
        if constexpr (kBitsOf <= 3) {
            words = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
        } else if constexpr (kBitsOf == 4) {
            words =
                _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)));
        } else {
            words = _mm512_loadu_si512(at);
        }
        if constexpr (kBitsOf == 3) {
            const uint8_t *upper =
                codes + (int64_t{2} * a.page_tokens + token) * a.head_dim / 8 + 8 * pair;
            const __m512i both = _mm512_maskz_broadcastq_epi64(
                0xff, _mm_loadl_epi64(reinterpret_cast<const __m128i *>(upper)));
            // Lanes 0-7 take the first 32 bits and lanes 8-15 the second, each its own nibble.
            const __m512i which = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            const __m512i shift =
                _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            const __m512i nibbles = _mm512_srlv_epi32(_mm512_permutexvar_epi32(which, both), shift);
            top = _mm512_slli_epi32(_mm512_and_si512(nibbles, _mm512_set1_epi32(15)), 2);
        }
    }

    // Vectors 0, 1, 2, 3 in order.
    __m512 next(__m512 table) {
        if constexpr (kBitsOf == 8) {
            const __m512 level = byte_level(words);
            words = _mm512_srli_epi32(words, 8);
            return level;
        } else {
            const __m512i index = kBitsOf == 3 ? join3(words, top) : words;
            words = _mm512_srli_epi32(words, kPlaneBits);
            if constexpr (kBitsOf == 3) top = _mm512_srli_epi32(top, 1);
            return _mm512_permutexvar_ps(index, table);
        }
    }
};

template <int kWidth, int kRows>
void value_rows(const KvValueArgs &a, const float *w, float *acc, const KvAhead &ahead) {
    const __m512 table = [] {
        if constexpr (kBits[kWidth] <= 4)
            return level_table<kWidth>();
        else
            return _mm512_setzero_ps();
    }();
    const int pages = value_pages(a);
    for (int c = 0; c < a.channels; c += 64) {
        const bool whole = c + 64 <= a.channels;
        __m512 sum[kRows][4];
        for (int row = 0; row < kRows; ++row) {
            const float *from = acc + row * a.acc_stride + c;
            for (int i = 0; i < 4; ++i) {
                const __m256 low = _mm256_loadu_ps(from + 8 * i);
                const __m256 high =
                    whole ? _mm256_loadu_ps(from + 32 + 8 * i) : _mm256_setzero_ps();
                sum[row][i] = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
            }
        }
        const uint8_t *const *page = a.pages;
        for (int t = 0, token = a.first_token; t < a.tokens; ++page, token = 0) {
            fetch(part_of(ahead, c / 64 * pages + static_cast<int>(page - a.pages),
                          (a.channels + 63) / 64 * pages));
            for (; t < a.tokens && token < a.page_tokens; ++t, ++token) {
                ChunkPair<kWidth> chunks(a, *page, token, (a.first_channel + c) / 64);
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
                    const __m512 level = chunks.next(table);
#pragma GCC unroll 4
                    for (int row = 0; row < kRows; ++row) {
                        sum[row][i] = _mm512_fmadd_ps(_mm512_set1_ps(w[row * a.w_stride + t]),
                                                      level, sum[row][i]);
                    }
                }
            }
        }
        for (int row = 0; row < kRows; ++row) {
            float *to = acc + row * a.acc_stride + c;
            for (int i = 0; i < 4; ++i) {
                _mm256_storeu_ps(to + 8 * i, _mm512_castps512_ps256(sum[row][i]));
                if (whole)
                    _mm256_storeu_ps(to + 32 + 8 * i, _mm512_extractf32x8_ps(sum[row][i], 1));
            }
        }
    }
}

// Width 16, kVectors * 16 channels from `first` on.
template <int kRows, int kVectors>
void value_halves(const KvValueArgs &a, const float *w, float *acc, int first) {
    __m512 sum[kRows][kVectors];
    for (int row = 0; row < kRows; ++row) {
        for (int i = 0; i < kVectors; ++i)
            sum[row][i] = _mm512_loadu_ps(acc + row * a.acc_stride + first + 16 * i);
    }
    const uint8_t *const *page = a.pages;
    for (int t = 0, token = a.first_token; t < a.tokens; ++page, token = 0) {
        const auto *x = reinterpret_cast<const uint16_t *>(*page) + int64_t{token} * a.head_dim +
                        a.first_channel + first;
        for (; t < a.tokens && token < a.page_tokens; ++t, ++token, x += a.head_dim) {
            for (int i = 0; i < kVectors; i += 2)  // rows that are read soon
                __builtin_prefetch(x + kKvTile * a.head_dim + 16 * i, 0, 2);
            __m512 values[kVectors];
            for (int i = 0; i < kVectors; ++i) {
                values[i] = _mm512_cvtph_ps(
                    _mm256_loadu_si256(reinterpret_cast<const __m256i *>(x + 16 * i)));
            }
#pragma GCC unroll 4
            for (int row = 0; row < kRows; ++row) {
                const __m512 p = _mm512_set1_ps(w[row * a.w_stride + t]);
                for (int i = 0; i < kVectors; ++i)
                    sum[row][i] = _mm512_fmadd_ps(p, values[i], sum[row][i]);
            }
        }
    }
    for (int row = 0; row < kRows; ++row) {
        for (int i = 0; i < kVectors; ++i)
            _mm512_storeu_ps(acc + row * a.acc_stride + first + 16 * i, sum[row][i]);
    }
}

template <int kRows>
void value_rows_of_halves(const KvValueArgs &a, const float *w, float *acc, const KvAhead &) {
    int c = 0;
    for (; c + 64 <= a.channels; c += 64)
        value_halves<kRows, 4>(a, w, acc, c);
    if (c < a.channels) value_halves<kRows, 2>(a, w, acc, c);
}

template <int kWidth, int kRows>
constexpr auto value_rows_of() {
    if constexpr (kBits[kWidth] == 16)
        return value_rows_of_halves<kRows>;
    else
        return value_rows<kWidth, kRows>;
}

// Rows by fours: 16 vectors of sums stay in registers.
template <int kWidth>
void value(const KvValueArgs &a) {
    constexpr void (*by_rows[4])(const KvValueArgs &, const float *, float *, const KvAhead &) = {
        value_rows_of<kWidth, 1>(), value_rows_of<kWidth, 2>(), value_rows_of<kWidth, 3>(),
        value_rows_of<kWidth, 4>()};
    for (int row = 0; row < a.rows; row += 4) {
        const int rows = a.rows - row < 4 ? a.rows - row : 4;
        by_rows[rows - 1](a, a.w + row * a.w_stride, a.acc + row * a.acc_stride,
                          part_of(a.ahead, row / 4, (a.rows + 3) / 4));
    }
}

void weight(const KvWeightArgs &a) {
    __m512 offsets[kKvRows];
    for (int row = 0; row < a.rows; ++row)
        offsets[row] = _mm512_setzero_ps();
    for (int t = 0; t < a.tokens; t += 16) {
        const int left = a.tokens - t;
        const __mmask16 mask = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xffff);
        const auto load = [&](const uint16_t *plane) {
            return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, plane + t));
        };
        const __m512 scale = load(a.scales);
        for (int row = 0; row < a.rows; ++row) {
            const __m512 w =
                _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, a.p + row * a.p_stride + t), scale);
            _mm512_mask_storeu_ps(a.w + row * a.w_stride + t, mask, w);
            if (!a.zeros) continue;
            const __m512 shift = _mm512_sub_ps(_mm512_set1_ps(a.middle), load(a.zeros));
            offsets[row] = _mm512_mask3_fmadd_ps(w, shift, offsets[row], mask);
        }
    }
    for (int row = 0; a.zeros && row < a.rows; ++row)
        a.offset[row] += _mm512_reduce_add_ps(offsets[row]);
}

// ---- Softmax and 16-bit tokens

// e^x for x <= 0: 2^n * e^r with |r| <= ln(2)/2 and a Taylor series to r^5, relative error 3e-6.
__m512 exponential(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.69314718f), x);
    constexpr float kTaylor[] = {1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    __m512 e = _mm512_set1_ps(1.0f / 120);
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(kTaylor[i]));
    return _mm512_scalef_ps(e, n);
}

float exponentials(float *x, int count, float *out_top) {
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) {
        const int left = count - i;
        const __mmask16 mask = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xffff);
        most = _mm512_mask_max_ps(most, mask, most, _mm512_maskz_loadu_ps(mask, x + i));
    }
    // Without any score the difference below must not be one of infinities.
    *out_top = _mm512_reduce_max_ps(most);
    const float top = *out_top == -INFINITY ? 0.0f : *out_top;
    // Far below the smallest float, where 2^n is 0 and r still finite: masked scores are -infinity.
    const __m512 least = _mm512_set1_ps(-1000.0f);
    for (int i = 0; i < count; i += 16) {
        const int left = count - i;
        const __mmask16 mask = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xffff);
        const __m512 shifted =
            _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_set1_ps(top));
        const __m512 e = exponential(_mm512_max_ps(shifted, least));
        _mm512_mask_storeu_ps(x + i, mask, e);
        sum = _mm512_mask_add_ps(sum, mask, sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

__m512 load_half(const uint16_t *x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)));
}

void half_scores(const KvHalfArgs &a) {
    __m512 sum[kKvRows];
    for (int row = 0; row < a.rows; ++row)
        sum[row] = _mm512_setzero_ps();
    for (int i = 0; i < a.head_dim; i += 16) {
        const __m512 x = load_half(a.x + i);
        for (int row = 0; row < a.rows; ++row)
            sum[row] = _mm512_fmadd_ps(_mm512_loadu_ps(a.q + row * a.q_stride + i), x, sum[row]);
    }
    for (int row = 0; row < a.rows; ++row)
        a.scores[row * a.score_stride] = _mm512_reduce_add_ps(sum[row]);
}

void half_values(const KvHalfArgs &a) {
    for (int i = 0; i < a.head_dim; i += 16) {
        const __m512 x = load_half(a.x + i);
        for (int row = 0; row < a.rows; ++row) {
            float *acc = a.acc + row * a.acc_stride + i;
            const __m512 p = _mm512_set1_ps(a.scores[row * a.score_stride]);
            _mm512_storeu_ps(acc, _mm512_fmadd_ps(p, x, _mm512_loadu_ps(acc)));
        }
    }
}

void pack(const KvPackArgs &) {}

struct Avx512Lanes {
    using V = float __attribute__((vector_size(64)));
    static void add_product(V &sum, const V &a, const V &b) {
        sum = reinterpret_cast<V>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a),
                                                  reinterpret_cast<__m512>(b),
                                                  reinterpret_cast<__m512>(sum)));
    }
    static void load_halves(const uint16_t *from, V &to) {
        to = reinterpret_cast<V>(load_half(from));
    }
    static void word_halves(const uint32_t *words, int shift, V &to) {
        to = reinterpret_cast<V>(
            low_half(_mm512_srl_epi32(_mm512_loadu_si512(words), _mm_cvtsi32_si128(shift))));
    }
};
using Turned = Rotatekv<Avx512Lanes>;

}  // namespace

const KvKernels kAvx512Kv{
    "cpu_avx512",
    {pack, pack, pack, pack, pack},
    {score<0>, score<1>, score<2>, score<3>, score<4>},
    weight,
    {value<0>, value<1>, value<2>, value<3>, value<4>},
    mean,
    exponentials,
    half_scores,
    half_values,
    {Turned::turn<2>, Turned::turn<3>, Turned::turn<4>, Turned::turn<8>, Turned::turn<16>},
    Turned::dot};

}  // namespace tarpon::cpu
