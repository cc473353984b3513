// Mode rotatekv's keys, turned back 16 tokens at a time: one body for every instruction set, in
// vectors whose lanes are tokens, so that rotation and RoPE are additions of whole vectors and the
// reordering is only which vector is read. Included by kv_scalar.cc, kv_avx2.cc and kv_avx512.cc,
// each of which has its own copy (anonymous namespace) and brings `Lanes`:
//     using V = float vector of 16 lanes
//     static void add_product(V &sum, const V &a, const V &b)
//     static void load_halves(const uint16_t *from, V &to)
//     static void word_halves(const uint32_t *words, int shift, V &to)   // binary16 at bit `shift`

#include "cpu/kv_kernel.h"

namespace tarpon::cpu {
namespace {

template <class Lanes>
struct Rotatekv {
    using V = typename Lanes::V;
    using Words = uint32_t __attribute__((vector_size(64)));

    // Vectors are passed by reference: by value the ABI of a file would depend on its flags.
    static V *row(float *keys, int channel) { return reinterpret_cast<V *>(keys) + channel; }
    static void load(const float *from, V &to) { __builtin_memcpy(&to, from, sizeof to); }

    template <int kBits>
    static void decode(const KvTurnArgs &a) {
        // Of every range: scale, and minus the zero point times it.
        alignas(64) float scales[kKvMaxRanges][kKvTile], offsets[kKvMaxRanges][kKvTile];
        for (int i = 0; kBits < 16 && i < a.ranges; ++i) {
            const auto at = [&](int plane) {
                return reinterpret_cast<const uint16_t *>(a.page + a.range_bytes[2 * i + plane]) +
                       a.tile * kKvTile;
            };
            V scale, zero;
            Lanes::load_halves(at(0), scale);
            Lanes::load_halves(at(1), zero);
            *row(scales[0], i) = scale;
            *row(offsets[0], i) = -zero * scale;
        }
        for (int c = 0; c < a.channels; ++c) {
            const KvPlace &place = a.places[c];
            const auto *words =
                reinterpret_cast<const uint32_t *>(a.page + place.word + a.tile * a.tile_bytes);
            V &key = *row(a.keys, c);
            if constexpr (kBits == 16) {
                Lanes::word_halves(words, place.bit, key);
            } else {
                Words lanes;
                __builtin_memcpy(&lanes, words, sizeof lanes);
                Words code = lanes >> place.bit & ((1u << (kBits == 3 ? 2 : kBits)) - 1);
                if constexpr (kBits == 3) {
                    __builtin_memcpy(&lanes, a.page + place.upper + a.tile * a.upper_tile_bytes,
                                     sizeof lanes);
                    code |= (lanes >> place.upper_bit & 1) << 2;
                }
                using Ints = int32_t __attribute__((vector_size(64)));
                V value = *row(offsets[0], place.range);
                Lanes::add_product(value,
                                   __builtin_convertvector(reinterpret_cast<Ints &>(code), V),
                                   *row(scales[0], place.range));
                key = value;
            }
        }
    }

    static void rotate(const KvTurnArgs &a) {
        for (int h = 1; h < a.power; h *= 2) {
            for (int first = 0; first < a.channels; first += 2 * h) {
                for (int i = first; i < first + h; ++i) {
                    V &x = *row(a.keys, i), &y = *row(a.keys, i + h);
                    const V sum = x + y;
                    y = x - y;
                    x = sum;
                }
            }
        }
        for (int column = 0; a.base > 1 && column < a.power; ++column) {
            V in[28];
            for (int j = 0; j < a.base; ++j)
                in[j] = *row(a.keys, j * a.power + column);
            for (int i = 0; i < a.base; ++i) {
                V sum = a.matrix[i] & 1 ? -in[0] : in[0];
                for (int j = 1; j < a.base; ++j)
                    sum = a.matrix[i] >> j & 1 ? sum - in[j] : sum + in[j];
                *row(a.keys, i * a.power + column) = sum;
            }
        }
    }

    // RoPE and the rotation's scale: pairs times scaled cosines, other channels times the scale.
    static void turn_pairs(const KvTurnArgs &a) {
        for (int pair = 0; pair < a.pairs; ++pair) {
            V step_cos, step_sin;
            load(a.step_cos + pair * kKvSteps, step_cos);
            load(a.step_sin + pair * kKvSteps, step_sin);
            const float start_cos = a.scale * a.start_cos[pair],
                        start_sin = a.scale * a.start_sin[pair];
            const V cos = start_cos * step_cos - start_sin * step_sin,
                    sin = start_sin * step_cos + start_cos * step_sin;
            for (int head = 0; head < a.channels; head += a.head_dim) {
                V &x = *row(a.keys, head + a.pair_channels[2 * pair]);
                V &y = *row(a.keys, head + a.pair_channels[2 * pair + 1]);
                const V turned = x * cos - y * sin;
                y = y * cos + x * sin;
                x = turned;
            }
        }
        for (int head = 0; head < a.channels; head += a.head_dim) {
            for (int i = 2 * a.pairs; i < a.head_dim; ++i)
                *row(a.keys, head + i) *= a.scale;
        }
    }

    template <int kBits>
    static void turn(const KvTurnArgs &a) {
        decode<kBits>(a);
        rotate(a);
        turn_pairs(a);
    }

    template <int kRows>
    static void dot_rows(const KvDotArgs &a) {
        V sums[kRows] = {};
        for (int i = 0; i < a.head_dim; ++i) {
            const V &key = *(reinterpret_cast<const V *>(a.keys) + i);
            for (int r = 0; r < kRows; ++r)
                Lanes::add_product(sums[r], V{} + a.q[r * a.q_stride + i], key);
        }
        for (int r = 0; r < kRows; ++r)
            __builtin_memcpy(a.scores + r * a.score_stride, &sums[r], sizeof(V));
    }

    static void dot(const KvDotArgs &a) {
        constexpr void (*by_rows[kKvRows])(const KvDotArgs &) = {
            dot_rows<1>, dot_rows<2>, dot_rows<3>, dot_rows<4>,
            dot_rows<5>, dot_rows<6>, dot_rows<7>, dot_rows<8>};
        by_rows[a.rows - 1](a);
    }
};

}  // namespace
}  // namespace tarpon::cpu
