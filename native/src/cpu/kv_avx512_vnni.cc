// KV attention of 2, 3, 4 and 8 bits with integer dot products (AVX512-VNNI): vpdpbusd multiplies
// 64 codes, as unsigned bytes, where an FMA multiplies 16 floats.
//
// Its other operand, of queries or of weighted probabilities, is a 16-bit whole number in two
// signed bytes, x = (256 * high + low) * scale: two products a code, half of what FMAs take, and an
// error of 2^-16 of the largest x, far below what attention is checked for. Sums are exact. Scores
// of 2 bits are kv_avx512_lookup.cc's.
//
// Bytes of a 32-bit lane are the four products that vpdpbusd adds: four channels of a token for
// scores, where lanes are tokens, and four tokens of a channel for values, where lanes are
// channels.
#include <immintrin.h>

#include <algorithm>

#include "cpu/kv_ahead.inl.h"
#include "cpu/kv_kernel.h"

namespace tarpon::cpu {
namespace {

constexpr int kBits[kKvIntegerWidths] = {2, 3, 4, 8};
constexpr float kLargest = 127 * 256;  // so that the high byte stays in range after rounding

// Two signed bytes of each lane's whole number.
struct Bytes {
    __m512i high, low;  // in 32-bit lanes
};

Bytes split_bytes(__m512i x) {
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(128)), 8);
    return {high, _mm512_sub_epi32(x, _mm512_slli_epi32(high, 8))};
}

__m512i load_words(const uint8_t *from) {
    return _mm512_loadu_si512(from);
}

__m512i and_bytes(__m512i x, int mask) {
    return _mm512_and_si512(x, _mm512_set1_epi32(mask * 0x01010101));
}

// The third bits of width 3 joined to the lower two: `upper` has them at bit 2 of each byte.
__m512i join3(__m512i lower, __m512i upper) {
    return _mm512_or_si512(and_bytes(lower, 3), and_bytes(upper, 4));
}

// ---- Queries
//
// Packed: scale, sum of the whole numbers, and from float 16 on the channels in the order in which
// codes come out of a word, 4 channels a step: { high bytes, low bytes }.

int channel_of(int bits, int step, int byte) {
    if (bits == 8) return 4 * step + byte;
    if (bits == 4) return step / 2 * 8 + 2 * byte + step % 2;
    return step / 4 * 16 + 4 * byte + step % 4;  // the lower bits of width 3
}

template <int kWidth>
void pack(const KvPackArgs &a) {
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < a.head_dim; i += 16)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(a.q + i)));
    const float largest = _mm512_reduce_max_ps(most);
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? kLargest / largest : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    alignas(16) int8_t high[256], low[256];
    for (int i = 0; i < a.head_dim; i += 16) {
        const __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(a.q + i), inverse));
        const Bytes bytes = split_bytes(x);
        sum = _mm512_add_epi32(sum, x);
        _mm_store_si128(reinterpret_cast<__m128i *>(high + i), _mm512_cvtepi32_epi8(bytes.high));
        _mm_store_si128(reinterpret_cast<__m128i *>(low + i), _mm512_cvtepi32_epi8(bytes.low));
    }
    a.packed[0] = largest / kLargest;
    a.packed[1] = static_cast<float>(_mm512_reduce_add_epi32(sum));
    auto *to = reinterpret_cast<int8_t *>(a.packed + 16);
    for (int step = 0; step < a.head_dim / 4; ++step) {
        for (int byte = 0; byte < 4; ++byte) {
            const int channel = channel_of(kBits[kWidth], step, byte);
            to[8 * step + byte] = high[channel];
            to[8 * step + 4 + byte] = low[channel];
        }
    }
}

// ---- Scores: lanes are the 16 tokens of a tile

template <int kRows>
struct RowSums {
    __m512i high[kRows], low[kRows];

    void add(const int32_t *packed, int64_t stride, __m512i codes) {
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
            const int32_t *q = packed + row * stride;
            high[row] = _mm512_dpbusd_epi32(high[row], codes, _mm512_set1_epi32(q[0]));
            low[row] = _mm512_dpbusd_epi32(low[row], codes, _mm512_set1_epi32(q[1]));
        }
    }
};

template <int kWidth, int kRows>
void score_tile(const KvScoreArgs &a, int tile, float *scores) {
    constexpr int bits = kBits[kWidth], plane_bits = bits == 3 ? 2 : bits;
    constexpr int steps = 8 / plane_bits;  // of a word
    const int words = a.head_dim * plane_bits / 32;
    const uint8_t *plane = a.codes + int64_t{64} * tile * words;
    const uint8_t *upper_plane =
        a.codes + a.page_tokens * a.head_dim / 4 + int64_t{64} * tile * (words / 2);
    RowSums<kRows> rows;
    for (int row = 0; row < kRows; ++row)
        rows.high[row] = rows.low[row] = _mm512_setzero_si512();
    const auto *q = reinterpret_cast<const int32_t *>(a.packed + 16);
    for (int w = 0; w < words; ++w) {
        const __m512i word = load_words(plane + 64 * w);
        __m512i upper{};
        if constexpr (bits == 3) {
            // Channel 16w + 4b + j is bit 16 * (w % 2) + 4b + j: to byte b, nibble by nibble.
            const __m512i pick = _mm512_set1_epi32(w % 2 ? 0x03030202 : 0x01010000);
            const __m512i lanes = _mm512_add_epi8(
                pick,
                _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c)));
            upper = _mm512_shuffle_epi8(load_words(upper_plane + 64 * (w / 2)), lanes);
            upper =
                _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, upper, _mm512_srli_epi16(upper, 4));
        }
#pragma GCC unroll 4
        for (int j = 0; j < steps; ++j, q += 2) {
            const __m512i shifted = _mm512_srli_epi32(word, plane_bits * j);
            if constexpr (bits == 3) {
                const __m512i third =
                    j < 2 ? _mm512_slli_epi32(upper, 2 - j) : _mm512_srli_epi32(upper, j - 2);
                rows.add(q, a.q_stride, join3(shifted, third));
            } else {
                rows.add(q, a.q_stride, bits == 8 ? word : and_bytes(shifted, (1 << bits) - 1));
            }
        }
    }
    const __m512 scale = _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.scales + tile * kKvTile)));
    constexpr float middle = static_cast<float>(1 << (bits - 1)) - 0.5f;
    for (int row = 0; row < kRows; ++row) {
        const float *packed = a.packed + row * a.q_stride;
        __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(rows.high[row]), _mm512_set1_ps(256),
                                     _mm512_cvtepi32_ps(rows.low[row]));
        sum = _mm512_sub_ps(sum, _mm512_set1_ps(middle * packed[1]));
        _mm512_storeu_ps(scores + row * a.score_stride,
                         _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_set1_ps(packed[0])), scale));
    }
}

template <int kWidth, int kRows>
void score_rows(const KvScoreArgs &a) {
    for (int t = 0; t < a.tiles; ++t)
        score_tile<kWidth, kRows>(a, a.first_tile + t, a.scores + t * kKvTile);
}

template <int kWidth>
void score(const KvScoreArgs &a) {
    constexpr void (*by_rows[kKvRows])(const KvScoreArgs &) = {
        score_rows<kWidth, 1>, score_rows<kWidth, 2>, score_rows<kWidth, 3>, score_rows<kWidth, 4>,
        score_rows<kWidth, 5>, score_rows<kWidth, 6>, score_rows<kWidth, 7>, score_rows<kWidth, 8>};
    by_rows[a.rows - 1](a);
}

// ---- Values: lanes are channels, in fours of tokens

constexpr int kMaxFours = (kKvSplitTokens + 3 + 31) / 32 * 8;

// Weights of the tokens of a call in whole numbers: of each four tokens the high bytes, then the
// low ones. The first of a four is at a multiple of four in the page; tokens outside the call weigh
// nothing.
struct alignas(64) Weights {
    int32_t fours[4][kMaxFours][2];
    float scale[4], sum[4];
};

// From 32 numbers as make_weights() packs them: the high byte of x is that of x + 128, the low
// byte, taken as signed, that of x.
__m512i weight_bytes(__m512i x) {
    const __m512i up = _mm512_add_epi16(x, _mm512_set1_epi16(128));
    const __m512i high =
        _mm512_shuffle_epi8(up, _mm512_broadcast_i32x4(_mm_setr_epi8(1, 3, 5, 7, -1, -1, -1, -1, 9,
                                                                     11, 13, 15, -1, -1, -1, -1)));
    const __m512i low =
        _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, -1, -1, 0, 2, 4, 6, -1,
                                                                    -1, -1, -1, 8, 10, 12, 14)));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                    _mm512_or_si512(high, low));
}

template <int kRows>
void make_weights(const KvValueArgs &a, const float *w, int lead, Weights *out) {
    const int end = lead + a.tokens;
    const auto load = [&](const float *row, int t) {
        const int left = end - t;
        const uint32_t below = left >= 16 ? 0xffff : left <= 0 ? 0 : (1u << left) - 1;
        const uint32_t lanes = t == 0 ? below & ~((1u << lead) - 1) : below;
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), row + t);
    };
    for (int r = 0; r < kRows; ++r) {
        const float *row = w + r * a.w_stride - lead;
        __m512 most = _mm512_setzero_ps();
        for (int t = 0; t < end; t += 16)
            most = _mm512_max_ps(most, load(row, t));
        const float largest = _mm512_reduce_max_ps(most);
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? kLargest / largest : 0.0f);
        __m512i sum = _mm512_setzero_si512();
        for (int t = 0; t < end; t += 32) {
            const auto whole = [&](int at) {
                return _mm512_cvtps_epi32(_mm512_mul_ps(load(row, at), inverse));
            };
            const __m512i x = _mm512_packs_epi32(whole(t), whole(t + 16));
            sum = _mm512_dpwssd_epi32(sum, x, _mm512_set1_epi16(1));
            _mm512_store_si512(out->fours[r][t / 4], weight_bytes(x));
        }
        out->scale[r] = largest / kLargest;
        out->sum[r] = static_cast<float>(_mm512_reduce_add_epi32(sum));
    }
}

// 16 bytes of each of four rows of codes, byte x of all four in lane x.
__m512i transpose(__m512i rows) {
    const __m512i words = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), rows);
    return _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(_mm_setr_epi8(
                                          0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
}

__m512i load_rows(const uint8_t *from, int64_t stride) {
    const auto row = [&](int i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i * stride));
    };
    __m512i rows = _mm512_castsi128_si512(row(0));
    rows = _mm512_inserti32x4(rows, row(1), 1);
    rows = _mm512_inserti32x4(rows, row(2), 2);
    return _mm512_inserti32x4(rows, row(3), 3);
}

// Nibbles of the plane of upper bits: that of byte x of the lower plane in lane x, for four tokens.
__m512i load_nibbles(const uint8_t *from, int64_t stride) {
    const __m512i words = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 1, 5, 9, 13, 1, 5, 9, 13),
        load_rows(from, stride));
    const __m128i first = _mm_setr_epi8(0, 4, 8, 12, 0, 4, 8, 12, 1, 5, 9, 13, 1, 5, 9, 13);
    const __m128i second = _mm_add_epi8(first, _mm_set1_epi8(2));
    __m512i pick = _mm512_broadcast_i32x4(first);
    pick = _mm512_inserti32x4(pick, second, 1);
    pick = _mm512_inserti32x4(pick, second, 3);
    return _mm512_srlv_epi32(_mm512_shuffle_epi8(words, pick),
                             _mm512_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4));
}

// A pass makes 32 channels: two vectors of codes of four tokens each, of which `even` and `odd` are
// sums once all tokens are in. 2 and 3 bits take two passes over the same 16 bytes of a row, one
// for each half of a byte's fields; 4 bits one over 16 bytes, 8 bits one over 32.
template <int kWidth>
struct Pass {
    static constexpr int kBitsOf = kBits[kWidth], kPlaneBits = kBitsOf == 3 ? 2 : kBitsOf;
    const uint8_t *codes, *upper;
    int64_t stride, upper_stride;
    int half, column;

    Pass(const KvValueArgs &a, int pass) {
        stride = a.head_dim * kPlaneBits / 8;
        upper_stride = a.head_dim / 8;
        half = pass % 2;
        column = kBitsOf <= 3 ? (a.first_channel / 64 + pass / 2) * 16
                              : (a.first_channel / 32 + pass) * 4 * kBitsOf;
    }

    void go_to(const KvValueArgs &a, const uint8_t *page, int token) {
        codes = page + token * stride + column;
        upper = page + int64_t{a.page_tokens} * a.head_dim / 4 + token * upper_stride + column / 2;
    }

    void next(__m512i *even, __m512i *odd) {
        if constexpr (kBitsOf == 8) {
            *even = transpose(load_rows(codes, stride));
            *odd = transpose(load_rows(codes + 16, stride));
        } else {
            __m512i bytes = transpose(load_rows(codes, stride));
            if constexpr (kBitsOf == 4) {
                *even = and_bytes(bytes, 15);
                *odd = and_bytes(_mm512_srli_epi32(bytes, 4), 15);
            } else {
                if (half) bytes = _mm512_srli_epi32(bytes, 4);
                *even = bytes;
                *odd = _mm512_srli_epi32(bytes, 2);
                if constexpr (kBitsOf == 2) {
                    *even = and_bytes(*even, 3);
                    *odd = and_bytes(*odd, 3);
                } else {
                    __m512i third = load_nibbles(upper, upper_stride);
                    third = half ? third : _mm512_slli_epi32(third, 2);
                    *even = join3(*even, third);
                    *odd = join3(*odd, _mm512_srli_epi32(third, 1));
                    upper += 4 * upper_stride;
                }
            }
        }
        codes += 4 * stride;
    }

    // Of the first channel, and of the 17th, of what first_channels() and last_channels() give.
    static int first(int pass) { return kBitsOf <= 3 ? pass / 2 * 64 + pass % 2 * 16 : 32 * pass; }
    static int last(int pass) { return first(pass) + (kBitsOf <= 3 ? 32 : 16); }

    static __m512 first_channels(__m512 even, __m512 odd) {
        return _mm512_permutex2var_ps(even, order(), odd);
    }
    static __m512 last_channels(__m512 even, __m512 odd) {
        const int next = kBitsOf <= 3 ? 8 : kBitsOf == 4 ? 1 : 2;
        return _mm512_permutex2var_ps(even, _mm512_add_epi32(order(), _mm512_set1_epi32(next)),
                                      odd);
    }
    static __m512i order() {
        if (kBitsOf <= 3)
            return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        if (kBitsOf == 4)
            return _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        return _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    }
};

void add_to(float *acc, __m512 x) {
    _mm512_storeu_ps(acc, _mm512_add_ps(_mm512_loadu_ps(acc), x));
}

template <int kWidth, int kRows>
void value_rows(const KvValueArgs &a, const float *w, float *acc, const KvAhead &ahead) {
    const int lead = a.first_token % 4, fours = (lead + a.tokens + 3) / 4;
    Weights weights;
    make_weights<kRows>(a, w, lead, &weights);
    constexpr float middle = static_cast<float>(1 << (kBits[kWidth] - 1)) - 0.5f;
    const int pages = value_pages(a);
    const int passes = kBits[kWidth] <= 3 ? (a.channels + 63) / 64 * 2 : a.channels / 32;
    for (int pass = 0; pass < passes; ++pass) {
        Pass<kWidth> codes(a, pass);
        __m512i even_high[kRows], even_low[kRows], odd_high[kRows], odd_low[kRows];
        for (int row = 0; row < kRows; ++row)
            even_high[row] = even_low[row] = odd_high[row] = odd_low[row] = _mm512_setzero_si512();
        const uint8_t *const *page = a.pages;
        for (int four = 0, token = a.first_token - lead; four < fours; ++page, token = 0) {
            fetch(part_of(ahead, pass * pages + static_cast<int>(page - a.pages), passes * pages));
            codes.go_to(a, *page, token);
            const int stop = std::min(fours, four + (a.page_tokens - token) / 4);
            for (; four < stop; ++four) {
                __m512i even, odd;
                codes.next(&even, &odd);
#pragma GCC unroll 4
                for (int row = 0; row < kRows; ++row) {
                    const __m512i h = _mm512_set1_epi32(weights.fours[row][four][0]);
                    const __m512i l = _mm512_set1_epi32(weights.fours[row][four][1]);
                    even_high[row] = _mm512_dpbusd_epi32(even_high[row], even, h);
                    odd_high[row] = _mm512_dpbusd_epi32(odd_high[row], odd, h);
                    even_low[row] = _mm512_dpbusd_epi32(even_low[row], even, l);
                    odd_low[row] = _mm512_dpbusd_epi32(odd_low[row], odd, l);
                }
            }
        }
        for (int row = 0; row < kRows; ++row) {
            const __m512 scale = _mm512_set1_ps(weights.scale[row]);
            const __m512 offset = _mm512_set1_ps(-middle * weights.sum[row]);
            const auto sum = [&](__m512i h, __m512i l) {
                const __m512 whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(h), _mm512_set1_ps(256),
                                                     _mm512_cvtepi32_ps(l));
                return _mm512_mul_ps(_mm512_add_ps(whole, offset), scale);
            };
            const __m512 even = sum(even_high[row], even_low[row]),
                         odd = sum(odd_high[row], odd_low[row]);
            float *to = acc + row * a.acc_stride;
            using P = Pass<kWidth>;
            add_to(to + P::first(pass), P::first_channels(even, odd));
            if (P::last(pass) < a.channels) add_to(to + P::last(pass), P::last_channels(even, odd));
        }
    }
}

// Rows by fours: 16 vectors of sums stay in registers.
template <int kWidth>
void value(const KvValueArgs &a) {
    constexpr void (*by_rows[4])(const KvValueArgs &, const float *, float *, const KvAhead &) = {
        value_rows<kWidth, 1>, value_rows<kWidth, 2>, value_rows<kWidth, 3>, value_rows<kWidth, 4>};
    for (int row = 0; row < a.rows; row += 4) {
        const int rows = a.rows - row < 4 ? a.rows - row : 4;
        by_rows[rows - 1](a, a.w + row * a.w_stride, a.acc + row * a.acc_stride,
                          part_of(a.ahead, row / 4, (a.rows + 3) / 4));
    }
}

}  // namespace

const KvIntegerKernels kAvx512VnniKv{"cpu_avx512_vnni",
                                     {nullptr, pack<1>, pack<2>, pack<3>},
                                     {nullptr, score<1>, score<2>, score<3>},
                                     {value<0>, value<1>, value<2>, value<3>}};

}  // namespace tarpon::cpu
