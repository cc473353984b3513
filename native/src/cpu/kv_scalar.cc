// KV attention for any x86-64, code by code: the plain statement of what the other kernels compute.
#include <cmath>

#include "cpu/kv_kernel.h"
#include "cpu/kv_rotatekv.inl.h"
#include "kv_cache/scheme.h"

namespace tarpon::cpu {
namespace {

using namespace kv_cache;

constexpr int kBits[kKvWidths] = {2, 3, 4, 8, 16};

float level(uint32_t code, int bits) {
    return bits == 16 ? to_float(half_t{static_cast<uint16_t>(code)}) : grid_level(code, bits);
}

float scale_of(const uint16_t *scales, int token, int bits) {
    return bits == 16 ? 1.0f : to_float(half_t{scales[token]});
}

template <int kWidth>
void score(const KvScoreArgs &a) {
    constexpr int bits = kBits[kWidth];
    const Format format{a.head_dim, 1, a.page_tokens, bits, bits};
    for (int t = 0; t < a.tiles * kKvTile; ++t) {
        const int token = a.first_tile * kKvTile + t;
        float levels[kMaxHeadDim];
        for (int i = 0; i < a.head_dim; ++i)
            levels[i] = level(k_code(a.codes, format, token, i), bits);
        for (int row = 0; row < a.rows; ++row) {
            float sum = 0;
            for (int i = 0; i < a.head_dim; ++i)
                sum += a.q[row * a.q_stride + i] * levels[i];
            a.scores[row * a.score_stride + t] = sum * scale_of(a.scales, token, bits);
        }
    }
}

void weight(const KvWeightArgs &a) {
    for (int row = 0; row < a.rows; ++row) {
        for (int t = 0; t < a.tokens; ++t) {
            const float w = a.p[row * a.p_stride + t] * to_float(half_t{a.scales[t]});
            a.w[row * a.w_stride + t] = w;
            if (a.zeros) a.offset[row] += w * (a.middle - to_float(half_t{a.zeros[t]}));
        }
    }
}

template <int kWidth>
void value(const KvValueArgs &a) {
    constexpr int bits = kBits[kWidth];
    const Format format{a.head_dim, 1, a.page_tokens, bits, bits};
    for (int t = 0; t < a.tokens; ++t) {
        const int token = a.first_token + t;
        const uint8_t *codes = a.pages[token / a.page_tokens];
        for (int i = 0; i < a.channels; ++i) {
            const float v =
                level(v_code(codes, format, token % a.page_tokens, a.first_channel + i), bits);
            for (int row = 0; row < a.rows; ++row)
                a.acc[row * a.acc_stride + i] += a.w[row * a.w_stride + t] * v;
        }
    }
}

void mean(const KvMeanArgs &m) {
    for (int row = 0; row < m.rows; ++row) {
        const float *a = m.a + row * m.stride, *b = m.b + row * m.stride;
        float *scores = m.scores + row * m.score_stride;
        for (int t = 0; t < m.tiles * kKvTile; ++t)
            scores[t] += m.constant[row * m.stride];
        for (int pair = 0; pair < m.pairs; ++pair) {
            const float c = m.start_cos[pair], s = m.start_sin[pair];
            const float turned_a = a[pair] * c + b[pair] * s, turned_b = b[pair] * c - a[pair] * s;
            const int step = m.pair_index[pair] * kKvSteps;
            for (int t = 0; t < m.tiles * kKvTile; ++t)
                scores[t] += turned_a * m.step_cos[step + t] + turned_b * m.step_sin[step + t];
        }
    }
}

float exponentials(float *x, int count, float *out_top) {
    float sum = 0, top = -INFINITY;
    for (int i = 0; i < count; ++i)
        top = x[i] > top ? x[i] : top;
    *out_top = top;
    if (top == -INFINITY) {
        for (int i = 0; i < count; ++i)
            x[i] = 0;
        return 0;
    }
    for (int i = 0; i < count; ++i)
        sum += x[i] = std::exp(x[i] - top);
    return sum;
}

void half_scores(const KvHalfArgs &a) {
    for (int row = 0; row < a.rows; ++row) {
        float sum = 0;
        for (int i = 0; i < a.head_dim; ++i)
            sum += a.q[row * a.q_stride + i] * to_float(half_t{a.x[i]});
        a.scores[row * a.score_stride] = sum;
    }
}

void half_values(const KvHalfArgs &a) {
    for (int i = 0; i < a.head_dim; ++i) {
        const float x = to_float(half_t{a.x[i]});
        for (int row = 0; row < a.rows; ++row)
            a.acc[row * a.acc_stride + i] += a.scores[row * a.score_stride] * x;
    }
}

void pack(const KvPackArgs &) {}

// ---- Append

void encode_grid(const KvEncodeArgs &a) {
    const Grid grid = choose_grid(a.x, a.count, a.bits);
    const float inverse = grid_inverse(grid.step);
    for (int i = 0; i < a.count; ++i)
        a.codes[i] = static_cast<uint8_t>(grid_code(a.x[i], inverse, a.bits));
    *a.scale = grid.scale.bits;
}

void encode_range(const KvEncodeArgs &a) {
    AsymmetricCode range = asymmetric_range(a.x, a.count, a.bits, a.clip);
    const StoredRange stored = stored_range(range);
    range.zero = to_float(stored.zero);
    for (int i = 0; i < a.count; ++i)
        a.codes[i] = static_cast<uint8_t>(asymmetric_code(a.x[i], range, a.bits));
    *a.scale = stored.scale.bits;
    *a.zero = stored.zero.bits;
}

void load_halves(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; ++i)
        to[i] = to_float(half_t{from[i]});
}

void load_bfloats(const uint16_t *from, int count, float *to) {
    for (int i = 0; i < count; ++i)
        to[i] = to_float(bf16_t{from[i]});
}

void norm(const float *weight, float eps, int count, float *x) {
    rms_norm(weight, eps, count, x);
}

void rope_pairs(const float *cos, const float *sin, int pairs, bool half, float *x) {
    const int step = half ? 1 : 2;
    float *first = x, *second = half ? x + pairs : x + 1;
    for (int pair = 0; pair < pairs; ++pair) {
        const float a = first[step * pair], b = second[step * pair];
        first[step * pair] = add_rn(mul_rn(a, cos[pair]), -mul_rn(b, sin[pair]));
        second[step * pair] = add_rn(mul_rn(b, cos[pair]), mul_rn(a, sin[pair]));
    }
}

void store_halves(const float *from, int count, uint16_t *to) {
    for (int i = 0; i < count; ++i)
        to[i] = saturate_half(from[i]).bits;
}

struct ScalarLanes {
    using V = float __attribute__((vector_size(64)));
    static void add_product(V &sum, const V &a, const V &b) { sum += a * b; }
    static void load_halves(const uint16_t *from, V &to) {
        for (int t = 0; t < kKvTile; ++t)
            to[t] = to_float(half_t{from[t]});
    }
    static void word_halves(const uint32_t *words, int shift, V &to) {
        for (int t = 0; t < kKvTile; ++t)
            to[t] = to_float(half_t{static_cast<uint16_t>(words[t] >> shift)});
    }
};
using Turned = Rotatekv<ScalarLanes>;

}  // namespace

const KvKernels kScalarKv{
    "cpu_scalar",
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

const KvEncodeKernels kScalarEncodeKv{encode_grid,  encode_range, load_halves, load_bfloats,
                                      store_halves, norm,         rope_pairs};

}  // namespace tarpon::cpu
