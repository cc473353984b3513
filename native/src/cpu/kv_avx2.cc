// KV attention in AVX2 with FMA and F16C, straight from the packed codes, for processors without
// AVX-512: codes become floats by a permute of a table of eight levels (2 and 3 bits) or by
// conversion, and multiply in FMAs.
//
// Scores: lanes are eight of a tile's 16 tokens; a word of the tile gives its channels one after
// the other by shifts. Values: lanes are channels, a token after the other. Sixteen registers hold
// the sums of four query rows for scores and of two for values.
#include <immintrin.h>

#include <cmath>

#include "cpu/kv_ahead.inl.h"
#include "cpu/kv_kernel.h"
#include "cpu/kv_rotatekv.inl.h"

namespace tarpon::cpu {
namespace {

constexpr int kBits[kKvWidths] = {2, 3, 4, 8, 16};
constexpr int kScoreRows = 4, kHalfScoreRows = 2, kValueRows = 2;

__m256i load_words(const void *from) {
    return _mm256_loadu_si256(static_cast<const __m256i *>(from));
}

__m256 load_halves(const void *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i *>(from)));
}

// Eight floats of which the first `left` count; the others are not touched.
__m256i first_lanes(int left) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

template <class Combine>
float reduce(__m256 x, Combine combine) {
    const __m128 four = combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = combine(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(combine(two, _mm_movehdup_ps(two)));
}

float sum_of(__m256 x) {
    return reduce(x, [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
}

// Levels of the codes in the low bits of eight words; at 3 bits the third is bit 2 of `top`.
template <int kWidth>
struct Levels {
    static constexpr int bits = kBits[kWidth];
    static constexpr float middle = static_cast<float>(1 << (bits - 1)) - 0.5f;
    // The levels of 2 bits stand twice, so that bits above a code do not matter.
    const __m256 table = bits == 2
                             ? _mm256_setr_ps(-1.5f, -0.5f, 0.5f, 1.5f, -1.5f, -0.5f, 0.5f, 1.5f)
                             : _mm256_setr_ps(-3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f);

    __m256 operator()(__m256i words, __m256i top) const {
        if constexpr (bits == 2) {
            return _mm256_permutevar8x32_ps(table, words);
        } else if constexpr (bits == 3) {
            const __m256i index = _mm256_or_si256(_mm256_and_si256(words, _mm256_set1_epi32(3)),
                                                  _mm256_and_si256(top, _mm256_set1_epi32(4)));
            return _mm256_permutevar8x32_ps(table, index);
        } else {
            const __m256i code = _mm256_and_si256(words, _mm256_set1_epi32((1 << bits) - 1));
            return _mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(middle));
        }
    }
};

// ---- Scores

template <int kWidth, int kRows>
void score_tile(const KvScoreArgs &a, int row, int t) {
    constexpr int bits = kBits[kWidth], plane_bits = bits == 3 ? 2 : bits;
    constexpr int per_word = 32 / plane_bits;
    const int words = a.head_dim / per_word, tile = a.first_tile + t;
    const uint8_t *plane = a.codes + int64_t{64} * tile * words;
    const uint8_t *upper =
        a.codes + a.page_tokens * a.head_dim / 4 + int64_t{64} * tile * (words / 2);
    const float *q = a.q + row * a.q_stride;
    const Levels<kWidth> levels;
    __m256 sum[kRows][2];
    for (int r = 0; r < kRows; ++r)
        sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (int w = 0; w < words; ++w) {
        __m256i word[2], top[2] = {};
        for (int half = 0; half < 2; ++half) {
            word[half] = load_words(plane + 64 * w + 32 * half);
            if constexpr (bits == 3) {
                top[half] = load_words(upper + 64 * (w / 2) + 32 * half);
                if (w % 2) top[half] = _mm256_srli_epi32(top[half], 16);
                top[half] = _mm256_slli_epi32(top[half], 2);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < per_word; ++i, ++q) {
            __m256 level[2];
            for (int half = 0; half < 2; ++half) {
                level[half] = levels(word[half], top[half]);
                word[half] = _mm256_srli_epi32(word[half], plane_bits);
                if constexpr (bits == 3) top[half] = _mm256_srli_epi32(top[half], 1);
            }
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                const __m256 x = _mm256_broadcast_ss(q + r * a.q_stride);
                sum[r][0] = _mm256_fmadd_ps(x, level[0], sum[r][0]);
                sum[r][1] = _mm256_fmadd_ps(x, level[1], sum[r][1]);
            }
        }
    }
    for (int half = 0; half < 2; ++half) {
        const __m256 scale = load_halves(a.scales + tile * kKvTile + 8 * half);
        float *to = a.scores + row * a.score_stride + t * kKvTile + 8 * half;
        for (int r = 0; r < kRows; ++r)
            _mm256_storeu_ps(to + r * a.score_stride, _mm256_mul_ps(sum[r][half], scale));
    }
}

// Width 16: a word has two channels of a token, so that lanes of converted halves take turns
// between two channels of four tokens, and queries are broadcast in pairs.
template <int kRows>
void score_halves(const KvScoreArgs &a, int row, int t) {
    const int words = a.head_dim / 2;
    const uint8_t *codes = a.codes + int64_t{64} * (a.first_tile + t) * words;
    const float *q = a.q + row * a.q_stride;
    __m256 sum[kRows][4];
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < 4; ++i)
            sum[r][i] = _mm256_setzero_ps();
    }
    for (int w = 0; w < words; ++w, codes += 64, q += 2) {
        __builtin_prefetch(codes + int64_t{64} * words, 0, 2);  // the next tile
        __m256 pair[kRows];
        for (int r = 0; r < kRows; ++r) {
            double both;
            __builtin_memcpy(&both, q + r * a.q_stride, sizeof both);
            pair[r] = _mm256_castpd_ps(_mm256_set1_pd(both));
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const __m256 keys = load_halves(codes + 16 * i);
            for (int r = 0; r < kRows; ++r)
                sum[r][i] = _mm256_fmadd_ps(pair[r], keys, sum[r][i]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        float *to = a.scores + (row + r) * a.score_stride + t * kKvTile;
        for (int half = 0; half < 2; ++half) {
            const __m256d sums =
                _mm256_castps_pd(_mm256_hadd_ps(sum[r][2 * half], sum[r][2 * half + 1]));
            _mm256_storeu_ps(to + 8 * half, _mm256_castpd_ps(_mm256_permute4x64_pd(sums, 0xd8)));
        }
    }
}

template <int kWidth>
void score(const KvScoreArgs &a) {
    constexpr bool halves = kBits[kWidth] == 16;
    constexpr int together = halves ? kHalfScoreRows : kScoreRows;
    for (int t = 0; t < a.tiles; ++t) {
        for (int row = 0; row < a.rows; row += together) {
            const int rows = a.rows - row;
            if constexpr (halves) {
                rows >= 2 ? score_halves<2>(a, row, t) : score_halves<1>(a, row, t);
            } else {
                rows >= 4   ? score_tile<kWidth, 4>(a, row, t)
                : rows == 3 ? score_tile<kWidth, 3>(a, row, t)
                : rows == 2 ? score_tile<kWidth, 2>(a, row, t)
                            : score_tile<kWidth, 1>(a, row, t);
            }
        }
    }
}

void mean(const KvMeanArgs &m) {
    for (int row = 0; row < m.rows; ++row) {
        const float *a = m.a + row * m.stride, *b = m.b + row * m.stride;
        // The query turned to the first position.
        float turned_a[128], turned_b[128];
        for (int i = 0; i < m.pairs; ++i) {
            const float c = m.start_cos[i], s = m.start_sin[i];
            turned_a[i] = a[i] * c + b[i] * s;
            turned_b[i] = b[i] * c - a[i] * s;
        }
        const __m256 constant = _mm256_set1_ps(m.constant[row * m.stride]);
        for (int t = 0; t < m.tiles * kKvTile; t += kKvTile) {
            float *to = m.scores + row * m.score_stride + t;
            __m256 low = _mm256_add_ps(_mm256_loadu_ps(to), constant),
                   high = _mm256_add_ps(_mm256_loadu_ps(to + 8), constant);
            for (int i = 0; i < m.pairs; ++i) {
                const int step = m.pair_index[i] * kKvSteps + t;
                const __m256 x = _mm256_set1_ps(turned_a[i]), y = _mm256_set1_ps(turned_b[i]);
                low = _mm256_fmadd_ps(x, _mm256_loadu_ps(m.step_cos + step), low);
                high = _mm256_fmadd_ps(x, _mm256_loadu_ps(m.step_cos + step + 8), high);
                low = _mm256_fmadd_ps(y, _mm256_loadu_ps(m.step_sin + step), low);
                high = _mm256_fmadd_ps(y, _mm256_loadu_ps(m.step_sin + step + 8), high);
            }
            _mm256_storeu_ps(to, low);
            _mm256_storeu_ps(to + 8, high);
        }
    }
}

// ---- Values

// Words of a chunk of 32 channels of a token: vector i is channels 8i .. 8i+7, at bit i * width.
template <int kWidth>
struct Chunk {
    static constexpr int bits = kBits[kWidth], plane_bits = bits == 3 ? 2 : bits;
    __m256i words, top = _mm256_setzero_si256();

    Chunk(const KvValueArgs &a, const uint8_t *codes, int token, int channel) {
        const int64_t code = int64_t{token} * a.head_dim + channel;
        const auto *at = reinterpret_cast<const __m128i *>(codes + code * plane_bits / 8);
        if constexpr (bits <= 3) {
            words = _mm256_cvtepu8_epi32(_mm_loadl_epi64(at));
        } else if constexpr (bits == 4) {
            words = _mm256_cvtepu16_epi32(_mm_loadu_si128(at));
        } else {
            words = load_words(at);
        }
        if constexpr (bits == 3) {
            int32_t nibbles;
            __builtin_memcpy(&nibbles, codes + (int64_t{2} * a.page_tokens * a.head_dim + code) / 8,
                             sizeof nibbles);
            const __m256i own = _mm256_srlv_epi32(_mm256_set1_epi32(nibbles),
                                                  _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            top = _mm256_slli_epi32(own, 2);
        }
    }

    __m256 next(const Levels<kWidth> &levels) {
        const __m256 level = levels(words, top);
        words = _mm256_srli_epi32(words, plane_bits);
        if constexpr (bits == 3) top = _mm256_srli_epi32(top, 1);
        return level;
    }
};

// Width 16: rows of binary16.
template <>
struct Chunk<4> {
    const uint16_t *x;
    Chunk(const KvValueArgs &a, const uint8_t *codes, int token, int channel)
        : x(reinterpret_cast<const uint16_t *>(codes) + int64_t{token} * a.head_dim + channel) {
        __builtin_prefetch(x + kKvTile * a.head_dim, 0, 2);  // a row that is read soon
    }
    __m256 next(const Levels<4> &) {
        const __m256 values = load_halves(x);
        x += 8;
        return values;
    }
};

template <int kWidth, int kRows>
void value_rows(const KvValueArgs &a, int row, const KvAhead &ahead) {
    const float *w = a.w + row * a.w_stride;
    const int chunks = a.channels / 32, pages = value_pages(a);
    const Levels<kWidth> levels;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        float *acc = a.acc + row * a.acc_stride + 32 * chunk;
        __m256 sum[kRows][4];
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < 4; ++i)
                sum[r][i] = _mm256_loadu_ps(acc + r * a.acc_stride + 8 * i);
        }
        const uint8_t *const *page = a.pages;
        for (int t = 0, token = a.first_token; t < a.tokens; ++page, token = 0) {
            fetch(part_of(ahead, chunk * pages + static_cast<int>(page - a.pages), chunks * pages));
            for (; t < a.tokens && token < a.page_tokens; ++t, ++token) {
                Chunk<kWidth> codes(a, *page, token, a.first_channel + 32 * chunk);
                __m256 weight[kRows];
                for (int r = 0; r < kRows; ++r)
                    weight[r] = _mm256_broadcast_ss(w + r * a.w_stride + t);
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) {
                    const __m256 level = codes.next(levels);
                    for (int r = 0; r < kRows; ++r)
                        sum[r][i] = _mm256_fmadd_ps(weight[r], level, sum[r][i]);
                }
            }
        }
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < 4; ++i)
                _mm256_storeu_ps(acc + r * a.acc_stride + 8 * i, sum[r][i]);
        }
    }
}

template <int kWidth>
void value(const KvValueArgs &a) {
    const int groups = (a.rows + kValueRows - 1) / kValueRows;
    for (int group = 0; group < groups; ++group) {
        const int row = group * kValueRows;
        const KvAhead ahead = part_of(a.ahead, group, groups);
        a.rows - row >= 2 ? value_rows<kWidth, 2>(a, row, ahead)
                          : value_rows<kWidth, 1>(a, row, ahead);
    }
}

void weight(const KvWeightArgs &a) {
    const auto half = [](const uint16_t *plane, int t) {
        return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(plane[t])));
    };
    for (int row = 0; row < a.rows; ++row) {
        const float *p = a.p + row * a.p_stride;
        float *w = a.w + row * a.w_stride;
        __m256 offsets = _mm256_setzero_ps();
        float rest = 0;
        int t = 0;
        for (; t + 8 <= a.tokens; t += 8) {
            const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(p + t), load_halves(a.scales + t));
            _mm256_storeu_ps(w + t, x);
            if (!a.zeros) continue;
            const __m256 shift = _mm256_sub_ps(_mm256_set1_ps(a.middle), load_halves(a.zeros + t));
            offsets = _mm256_fmadd_ps(x, shift, offsets);
        }
        for (; t < a.tokens; ++t) {
            w[t] = p[t] * half(a.scales, t);
            if (a.zeros) rest += w[t] * (a.middle - half(a.zeros, t));
        }
        if (a.zeros) a.offset[row] += sum_of(offsets) + rest;
    }
}

// ---- Softmax and 16-bit tokens

// e^x for -87 <= x <= 0: 2^n * e^r with |r| <= ln(2)/2 and a Taylor series to r^5, relative error
// 3e-6; 0 below, where masked scores are.
__m256 exponential(__m256 x) {
    const __m256 least = _mm256_set1_ps(-87.0f);
    const __m256 in_range = _mm256_cmp_ps(x, least, _CMP_GE_OQ);
    x = _mm256_max_ps(x, least);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.69314718f), x);
    constexpr float kTaylor[] = {1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    __m256 e = _mm256_set1_ps(1.0f / 120);
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(kTaylor[i]));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const __m256 scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(e), exponent));
    return _mm256_and_ps(scaled, in_range);
}

float exponentials(float *x, int count, float *out_top) {
    __m256 most = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
    for (int i = 0; i < count; i += 8) {
        const __m256i lanes = first_lanes(count - i);
        most = _mm256_blendv_ps(most, _mm256_max_ps(most, _mm256_maskload_ps(x + i, lanes)),
                                _mm256_castsi256_ps(lanes));
    }
    *out_top = reduce(most, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
    // Without any score the difference below must not be one of infinities.
    const __m256 top = _mm256_set1_ps(*out_top == -INFINITY ? 0.0f : *out_top);
    for (int i = 0; i < count; i += 8) {
        const __m256i lanes = first_lanes(count - i);
        const __m256 e = exponential(_mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), top));
        _mm256_maskstore_ps(x + i, lanes, e);
        sum = _mm256_add_ps(sum, _mm256_and_ps(e, _mm256_castsi256_ps(lanes)));
    }
    return sum_of(sum);
}

void half_scores(const KvHalfArgs &a) {
    for (int row = 0; row < a.rows; ++row) {
        __m256 sum = _mm256_setzero_ps();
        for (int i = 0; i < a.head_dim; i += 8) {
            sum = _mm256_fmadd_ps(_mm256_loadu_ps(a.q + row * a.q_stride + i), load_halves(a.x + i),
                                  sum);
        }
        a.scores[row * a.score_stride] = sum_of(sum);
    }
}

void half_values(const KvHalfArgs &a) {
    for (int i = 0; i < a.head_dim; i += 8) {
        const __m256 x = load_halves(a.x + i);
        for (int row = 0; row < a.rows; ++row) {
            float *acc = a.acc + row * a.acc_stride + i;
            const __m256 p = _mm256_broadcast_ss(a.scores + row * a.score_stride);
            _mm256_storeu_ps(acc, _mm256_fmadd_ps(p, x, _mm256_loadu_ps(acc)));
        }
    }
}

void pack(const KvPackArgs &) {}

// Vectors of 16 lanes in two registers.
struct Avx2Lanes {
    using V = float __attribute__((vector_size(64)));
    static __m256 *halves(V &x) { return reinterpret_cast<__m256 *>(&x); }
    static const __m256 *halves(const V &x) { return reinterpret_cast<const __m256 *>(&x); }
    static void add_product(V &sum, const V &a, const V &b) {
        for (int i = 0; i < 2; ++i)
            halves(sum)[i] = _mm256_fmadd_ps(halves(a)[i], halves(b)[i], halves(sum)[i]);
    }
    static void load_halves(const uint16_t *from, V &to) {
        for (int i = 0; i < 2; ++i)
            halves(to)[i] =
                _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + 8 * i)));
    }
    static void word_halves(const uint32_t *words, int shift, V &to) {
        for (int i = 0; i < 2; ++i) {
            const __m256i shifted = _mm256_and_si256(
                _mm256_srl_epi32(load_words(words + 8 * i), _mm_cvtsi32_si128(shift)),
                _mm256_set1_epi32(0xffff));
            const __m256i packed =
                _mm256_permute4x64_epi64(_mm256_packus_epi32(shifted, shifted), 0x08);
            halves(to)[i] = _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
        }
    }
};
using Turned = Rotatekv<Avx2Lanes>;

}  // namespace

const KvKernels kAvx2Kv{
    "cpu_avx2",
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
