// A warp's running softmax over chunks of keys, from its queries' operands to unscaled outputs.
//
// Scores lie as mma's accumulators: of tile t, registers 0 and 1 are the key 16t + 2g in columns 2m
// and 2m + 1, registers 2 and 3 the key 16t + 2g + 1. Columns n and n + 4 are parts of one row
// (AttendStorage), so lanes m and m ^ 2 add theirs and go on with the same numbers.
//
// Probabilities are relative to the largest of score + exponent(scale of the value), so that their
// product with the scale, the other operand of the values, is below 2 whatever the scales are; its
// columns n and n + 4 are again a rounded number and what was rounded off.
//
// Codes are positive; what they stand for is (code - centre) * scale. The centre's share is taken
// off the sums before each chunk is added to them, so that tensor cores, whose additions truncate,
// never carry a large sum of positive codes along.
#pragma once

#include "kv_cache/stage.cuh"
#include "kv_cache/turned_keys.cuh"

namespace tarpon::kv_cache {

inline constexpr int kChunkTiles = kChunkTokens / 16;
static_assert(kChunkTiles == 2);
inline constexpr float kWeightUnit = 0x1p14f;  // of the operand: keeps small ones exact

TARPON_DEVICE float minus_infinity() {
    return -INFINITY;
}

template <class Config>
struct Softmax {
    static constexpr int kRowTiles = Config::kRowTiles, kHeadDim = Config::kHeadDim;
    static constexpr int kGroups = Config::kValueGroups;

    uint32_t queries[kRowTiles][Config::kPairs];  // mode tarpon
    float dot_factor[kRowTiles][2], dot_offset[kRowTiles][2], constant[kRowTiles][2];
    int low[kRowTiles][2], high[kRowTiles][2];
    float top[kRowTiles][2], sum[kRowTiles][2];  // sum: of this lane's keys
    float out[kRowTiles][Config::kOutTiles][4];

    using Scores = float[kRowTiles][kChunkTiles][4];
    // Of values as B operands, for each group of channels with a scale of its own.
    using Weights = uint32_t[kGroups][kRowTiles][kChunkTiles][2];
    // What a column's codes are relative to: sums of weights, times zero points in mode rotatekv.
    using Totals = float[kGroups][kRowTiles][2];

    // Columns of this lane: rows 2m and 2m + 1 of a tile, modulo 4.
    static TARPON_DEVICE int row_of(int tile, int column) {
        return 4 * tile + 2 * (ptx::lane_id() % 2) + column;
    }
    // Whether this lane's columns are the rounded part; the offset and constant join only there.
    static TARPON_DEVICE bool is_main() { return ptx::lane_id() % 4 < 2; }

    TARPON_DEVICE void begin(const AttendStorage<Config> &storage, int head) {
        TARPON_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
            TARPON_UNROLL
            for (int i = 0; !Config::kTurnsKeys && i < Config::kPairs; ++i)
                queries[t][i] = ptx::ld_shared(&storage.queries[head][t][i][ptx::lane_id()]);
            TARPON_UNROLL
            for (int c = 0; c < 2; ++c) {
                const RowRule *rule = &storage.rules[head][row_of(t, c)];
                dot_factor[t][c] = ptx::ld_shared(&rule->dot_factor);
                dot_offset[t][c] = is_main() ? ptx::ld_shared(&rule->dot_offset) : 0.0f;
                constant[t][c] = is_main() ? ptx::ld_shared(&rule->constant) : 0.0f;
                low[t][c] = ptx::ld_shared(&rule->low);
                high[t][c] = ptx::ld_shared(&rule->high);
                top[t][c] = minus_infinity();
                sum[t][c] = 0;
            }
            TARPON_UNROLL
            for (int i = 0; i < Config::kOutTiles; ++i) {
                TARPON_UNROLL
                for (int j = 0; j < 4; ++j)
                    out[t][i][j] = 0;
            }
        }
    }

    // [warp] Adds a chunk: codes in `slot`, or rows of binary16 if `rows`.
    TARPON_DEVICE void add_chunk(const AttendParams &p, const AttendStorage<Config> &storage,
                                 const Work &w, const Chunk &chunk, const StageLayout &s,
                                 const uint8_t *slot) {
        Scores scores = {};
        score_keys(w.recent ? 0 : p.plan.format.k_bits, slot + s.k_codes, slot + s.k_upper, scores);
        const bool k_scaled = !w.recent && has_scales(p.plan.format.k_bits);
        scale_scores(k_scaled ? slot + s.k_scales : nullptr, scores);
        if (w.sink_positions && chunk.sinks) {
            score_mean_apart(p, storage, w, chunk, scores);
        } else {
            score_mean(p, storage, w.kv_head, chunk.first, scores);
        }
        finish_chunk(p, w, chunk, s, slot, scores);
    }

    // [warp] Scores of a tile of keys that have been turned back, floats [head_dim][16 tokens] from
    // channel `first` of a rotation on (turned_keys.cuh). Queries take two columns, and keys two
    // products: what they are rounded to, and what that takes away. `operands`: of the head, left in
    // shared memory, since registers are short.
    TARPON_DEVICE void score_turned(const uint32_t (&operands)[kRowTiles][Config::kPairs][32],
                                    const float *keys, int first, int tile, Scores &scores) {
        const int g = ptx::lane_id() / 4, m = ptx::lane_id() % 4;
        float sums[kRowTiles][4] = {};
        TARPON_NO_UNROLL  // loads of many steps ahead would take more registers than there are
            for (int step = 0; step < kHeadDim / 16; ++step) {
            uint32_t a[4], rest[4];
            TARPON_UNROLL
            for (int i = 0; i < 2; ++i) {
                const int channel = first + 16 * step + 8 * i + 2 * m;
                const auto pair = [&](int at) {
                    return ptx::ld_shared(reinterpret_cast<const hadamard::f32x2 *>(
                        keys + key_at<kHeadDim>(at, 2 * g)));
                };
                const hadamard::f32x2 x = pair(channel), y = pair(channel + 1);
                split_finite(x.x, y.x, a[2 * i], rest[2 * i]);
                split_finite(x.y, y.y, a[2 * i + 1], rest[2 * i + 1]);
            }
            TARPON_UNROLL
            for (int t = 0; t < kRowTiles; ++t) {
                const uint32_t b[2] = {ptx::ld_shared(&operands[t][2 * step][ptx::lane_id()]),
                                       ptx::ld_shared(&operands[t][2 * step + 1][ptx::lane_id()])};
                ptx::mma_m16n8k16<half_t>(sums[t], a, b);
                ptx::mma_m16n8k16<half_t>(sums[t], rest, b);
            }
        }
        TARPON_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
            TARPON_UNROLL
            for (int i = 0; i < 4; ++i) {
                TARPON_UNROLL  // registers want fixed numbers
                    for (int to = 0; to < kChunkTiles; ++to) scores[t][to][i] =
                        to == tile ? sums[t][i] * dot_factor[t][i % 2] : scores[t][to][i];
            }
        }
    }

    // [warp] From a chunk's scores to sums: its values are in `slot`.
    TARPON_DEVICE void finish_chunk(const AttendParams &p, const Work &w, const Chunk &chunk,
                                    const StageLayout &s, const uint8_t *slot, Scores &scores) {
        const int v_bits = w.recent ? 16 : p.plan.format.v_bits;
        const bool scaled = has_scales(v_bits);
        const uint8_t *scales = scaled ? slot + s.v_scales : nullptr;
        const uint8_t *zeros = scaled && Config::kTurnsKeys ? slot + s.v_zeros : nullptr;
        Weights weights;
        Totals total;
        float factor[kRowTiles][2];
        weigh(p, w, chunk, scales, zeros, scores, weights, total, factor);
        add_values(v_bits, slot + s.v_codes, slot + s.v_upper, weights, total, factor);
    }

  private:
    template <int kBits>
    TARPON_DEVICE void score_codes(const uint8_t *codes, const uint8_t *upper, Scores &scores) {
        TARPON_NO_UNROLL  // a body a tile would double the code
            for (int tile = 0; tile < kChunkTiles; ++tile) {
            float sums[kRowTiles][4] = {};
            const auto multiply = [&](int step, const uint32_t(&a)[4]) {
                TARPON_UNROLL
                for (int t = 0; t < kRowTiles; ++t) {
                    ptx::mma_m16n8k16<half_t>(sums[t], a,
                                              {queries[t][2 * step], queries[t][2 * step + 1]});
                }
            };
            if constexpr (kBits == 0) {
                each_key_row_step<kHeadDim>(half_chunk<kHeadDim>(codes, 16 * tile, 0), multiply);
            } else {
                each_key_step<kHeadDim, kBits>(codes + 2 * kHeadDim * code_width(kBits) * tile,
                                               upper + 2 * kHeadDim * tile, multiply);
            }
            TARPON_UNROLL
            for (int t = 0; t < kRowTiles; ++t) {
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i) {
                    TARPON_UNROLL  // registers want fixed numbers
                        for (int to = 0; to < kChunkTiles; ++to) scores[t][to][i] =
                            to == tile ? sums[t][i] : scores[t][to][i];
                }
            }
        }
    }

    // bits: 0 for rows of binary16.
    TARPON_DEVICE void score_keys(int bits, const uint8_t *codes, const uint8_t *upper,
                                  Scores &scores) {
        switch (bits) {
            case 0:
                return score_codes<0>(codes, upper, scores);
            case 2:
                return score_codes<2>(codes, upper, scores);
            case 3:
                return score_codes<3>(codes, upper, scores);
            case 4:
                return score_codes<4>(codes, upper, scores);
            case 8:
                return score_codes<8>(codes, upper, scores);
            default:
                return score_codes<16>(codes, upper, scores);
        }
    }

    // From dot products with codes to shares of scores, of which lanes m and m ^ 2 have one each.
    TARPON_DEVICE void scale_scores(const uint8_t *k_scales, Scores &scores) {
        TARPON_UNROLL
        for (int tile = 0; tile < kChunkTiles; ++tile) {
            float scale[2];
            load_scales(k_scales, tile, scale[0], scale[1]);
            TARPON_UNROLL
            for (int t = 0; t < kRowTiles; ++t) {
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i) {
                    float &score = scores[t][tile][i];
                    score = (score * dot_factor[t][i % 2] - dot_offset[t][i % 2]) * scale[i / 2] +
                            constant[t][i % 2];
                }
            }
        }
    }

    // Adds q . R_j(mean) for the keys j from `first` on: the rows' coefficients are turned to
    // `first` once, and multiplied with the fixed cosines and sines of 0 .. kChunkTokens - 1.
    TARPON_DEVICE void score_mean(const AttendParams &p, const AttendStorage<Config> &storage,
                                  int kv_head, int first, Scores &scores) {
        const int g = ptx::lane_id() / 4, m = ptx::lane_id() % 4;
        const RopeTables &rope = p.plan.rope;
        const int count = ptx::ld_global_nc(&p.mean_pair_counts[kv_head]);
        TARPON_NO_UNROLL
        for (int n = 0; n < count; n += 8) {
            uint32_t b[kRowTiles][2], a[kChunkTiles][4], rest[kChunkTiles][4];
            TARPON_UNROLL
            for (int i = 0; i < 2; ++i) {
                const int at = n + 4 * i + m;
                const int pair = ptx::ld_global_nc(&p.mean_pairs[kv_head * p.pair_stride + at]);
                const CosSin angle = load_angle(rope, first, pair);
                TARPON_UNROLL
                for (int t = 0; t < kRowTiles; ++t) {
                    const PairMean own = ptx::ld_shared(&storage.turning[4 * t + g % 4][at]);
                    const float x = own.first * angle.cos + own.second * angle.sin;
                    const float y = own.second * angle.cos - own.first * angle.sin;
                    b[t][i] = split_pair(x, y, g < 4);
                }
                TARPON_UNROLL
                for (int tile = 0; tile < kChunkTiles; ++tile) {
                    const TurnFragment turn =
                        ptx::ld_global_nc(reinterpret_cast<const TurnFragment *>(p.turns) +
                                          (tile * rope.pairs + pair) * 8 + g);
                    a[tile][2 * i] = turn.even, a[tile][2 * i + 1] = turn.odd;
                    rest[tile][2 * i] = turn.even_rest, rest[tile][2 * i + 1] = turn.odd_rest;
                }
            }
            TARPON_UNROLL
            for (int tile = 0; tile < kChunkTiles; ++tile) {
                TARPON_UNROLL
                for (int t = 0; t < kRowTiles; ++t) {
                    ptx::mma_m16n8k16<half_t>(scores[t][tile], a[tile], b[t]);
                    ptx::mma_m16n8k16<half_t>(scores[t][tile], rest[tile], b[t]);
                }
            }
        }
    }

    // The same for sinks that stand anywhere: a lane takes a key, and the sums go to where the
    // scores are.
    TARPON_DEVICE void score_mean_apart(const AttendParams &p, const AttendStorage<Config> &storage,
                                        const Work &w, const Chunk &chunk, Scores &scores) {
        const int count = ptx::ld_global_nc(&p.mean_pair_counts[w.kv_head]);
        if (count == 0) return;
        const int key = chunk.first + ptx::lane_id();
        const int position = key < chunk.high ? key_position(w, chunk, key) : 0;
        float sums[Config::kRows] = {};
        TARPON_NO_UNROLL
        for (int n = 0; n < count; ++n) {
            const int pair = ptx::ld_global_nc(&p.mean_pairs[w.kv_head * p.pair_stride + n]);
            const CosSin angle = load_angle(p.plan.rope, position, pair);
            TARPON_UNROLL
            for (int r = 0; r < Config::kRows; ++r) {
                const PairMean own = ptx::ld_shared(&storage.turning[r][n]);
                sums[r] += own.first * angle.cos + own.second * angle.sin;
            }
        }
        const int g = ptx::lane_id() / 4;
        TARPON_UNROLL
        for (int r = 0; r < Config::kRows; ++r) {
            TARPON_UNROLL
            for (int tile = 0; tile < kChunkTiles; ++tile) {
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const float sum = ptx::shfl(sums[r], 16 * tile + 2 * g + i / 2);
                    if (is_main() && row_of(r / 4, i % 2) == r) scores[r / 4][tile][i] += sum;
                }
            }
        }
    }

    // Two numbers as binary16, kept finite, and what that takes away.
    static TARPON_DEVICE void split_finite(float x, float y, uint32_t &rounded, uint32_t &rest) {
        const auto finite = [](float z) {
            return z > 65504.0f ? 65504.0f : z < -65504.0f ? -65504.0f : z;
        };
        x = finite(x), y = finite(y);
        rounded = ptx::pack2<half_t>(x, y);
        float low, high;
        ptx::unpack2<half_t>(rounded, low, high);
        rest = ptx::pack2<half_t>(x - low, y - high);
    }

    // Two numbers as binary16, or what that rounds off.
    static TARPON_DEVICE uint32_t split_pair(float x, float y, bool main) {
        const uint32_t rounded = ptx::pack2<half_t>(x, y);
        if (main) return rounded;
        float low, high;
        ptx::unpack2<half_t>(rounded, low, high);
        return ptx::pack2<half_t>(x - low, y - high);
    }

    // Scales, or zero points, of the keys 2g and 2g + 1 of a tile; ones if there are none.
    static TARPON_DEVICE void load_scales(const uint8_t *scales, int tile, float &even,
                                          float &odd) {
        even = odd = 1;
        if (!scales) return;
        const int at = 2 * (16 * tile + 2 * (ptx::lane_id() / 4));
        ptx::unpack2<half_t>(ptx::ld_shared(reinterpret_cast<const uint32_t *>(scales + at)), even,
                             odd);
    }

    // Scores become operands of the values. `total` is the sum of a column's weights over the
    // chunk, in the lanes of the rounded part; `factor` brings older sums to the new reference.
    TARPON_DEVICE void weigh(const AttendParams &p, const Work &w, const Chunk &chunk,
                             const uint8_t *v_scales, const uint8_t *v_zeros, Scores &scores,
                             Weights &weights, Totals &total, float (&factor)[kRowTiles][2]) {
        const int g = ptx::lane_id() / 4;
        const uint32_t hidden = hidden_keys(w, chunk);
        // Of the keys 2g and 2g + 1 of a tile; what a code's scale is at most, as a power of two.
        float value_scale[kGroups][kChunkTiles][2], exponent[kChunkTiles][2];
        int position[kChunkTiles][2];
        TARPON_UNROLL
        for (int tile = 0; tile < kChunkTiles; ++tile) {
            TARPON_UNROLL
            for (int half = 0; half < 2; ++half)
                position[tile][half] =
                    key_position(w, chunk, chunk.first + 16 * tile + 2 * g + half);
            TARPON_UNROLL
            for (int group = 0; group < kGroups; ++group) {
                auto &scale = value_scale[group][tile];
                load_scales(v_scales ? v_scales + group * kScalePlaneBytes : nullptr, tile,
                            scale[0], scale[1]);
                TARPON_UNROLL
                for (int half = 0; half < 2; ++half) {
                    const float own = exponent_of(scale[half]);
                    float &most = exponent[tile][half];
                    most = group == 0 || own > most ? own : most;
                }
            }
        }
        TARPON_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
            float reference[2] = {top[t][0], top[t][1]};
            TARPON_UNROLL
            for (int tile = 0; tile < kChunkTiles; ++tile) {
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const int c = i % 2, at = 16 * tile + 2 * g + i / 2, key = chunk.first + at;
                    float &score = scores[t][tile][i];
                    score += ptx::shfl_xor(score, 2);
                    if (p.softcap > 0) score = p.cap_scale * tanhf(score / p.softcap);
                    const int stands = position[tile][i / 2];
                    const bool visible = key >= chunk.low && key < chunk.high &&
                                         stands >= low[t][c] && stands < high[t][c] &&
                                         (hidden >> at & 1) == 0;
                    if (!visible) score = minus_infinity();
                    const float raised = score + exponent[tile][i / 2];
                    reference[c] = raised > reference[c] ? raised : reference[c];
                }
            }
            TARPON_UNROLL
            for (int c = 0; c < 2; ++c) {
                TARPON_UNROLL
                for (int mask = 4; mask < 32; mask *= 2) {
                    const float other = ptx::shfl_xor(reference[c], mask);
                    reference[c] = other > reference[c] ? other : reference[c];
                }
                // Before the first visible key there is nothing to refer to.
                const float base = reference[c] > minus_infinity() ? reference[c] : 0.0f;
                factor[t][c] = exp2f(top[t][c] - base);
                top[t][c] = reference[c];
                sum[t][c] *= factor[t][c];
                reference[c] = base;
                TARPON_UNROLL
                for (int group = 0; group < kGroups; ++group)
                    total[group][t][c] = 0;
            }
            TARPON_UNROLL
            for (int tile = 0; tile < kChunkTiles; ++tile) {
                float probability[4];
                TARPON_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const int c = i % 2;
                    probability[i] = exp2f(scores[t][tile][i] - reference[c]);
                    sum[t][c] += probability[i];
                }
                TARPON_UNROLL
                for (int group = 0; group < kGroups; ++group) {
                    float zero[2], weight[4];
                    load_scales(v_zeros ? v_zeros + group * kScalePlaneBytes : nullptr, tile,
                                zero[0], zero[1]);
                    TARPON_UNROLL
                    for (int i = 0; i < 4; ++i) {
                        weight[i] = probability[i] * value_scale[group][tile][i / 2] * kWeightUnit;
                        total[group][t][i % 2] += weight[i] * zero[i / 2];
                    }
                    TARPON_UNROLL
                    for (int key = 0; key < 2; ++key) {
                        weights[group][t][tile][key] = ptx::movmatrix_trans(
                            split_pair(weight[2 * key], weight[2 * key + 1], is_main()));
                    }
                }
            }
            TARPON_UNROLL
            for (int group = 0; group < kGroups; ++group) {
                TARPON_UNROLL
                for (int c = 0; c < 2; ++c) {
                    float &all = total[group][t][c];
                    TARPON_UNROLL
                    for (int mask = 4; mask < 32; mask *= 2)
                        all += ptx::shfl_xor(all, mask);
                    if (!is_main()) all = 0;
                }
            }
        }
    }

    // e with 2^e <= scale < 2^(e + 1) for a normal binary16 number; that of the least one below.
    static TARPON_DEVICE float exponent_of(float scale) {
        const int biased = int(from_float<half_t>(scale).bits >> 10);
        return float((biased < 1 ? 1 : biased) - 15);
    }

    template <int kBits>
    TARPON_DEVICE void add_codes(const uint8_t *codes, const uint8_t *upper, const Weights &weights,
                                 const Totals &total, const float (&factor)[kRowTiles][2]) {
        // Zero points are in the total in mode rotatekv, and the same for all codes in the other.
        constexpr float kCentre = kBits == 16          ? 0.0f
                                  : Config::kTurnsKeys ? 0x1p-24f
                                                       : 0.5f * float((1 << kBits) - 1) * 0x1p-24f;
        // Channels of a lane group have one group's scales: of the first half, or of the second.
        const int own_group = kGroups == 1 ? 0 : ptx::lane_id() / 16;
        TARPON_UNROLL
        for (int t = 0; t < kRowTiles; ++t) {
            TARPON_UNROLL
            for (int i = 0; i < Config::kOutTiles; ++i) {
                TARPON_UNROLL
                for (int j = 0; j < 4; ++j) {
                    const int shift = v_run_channel(kHeadDim, kBits, 2 * i + j / 2, 0).shift;
                    const float relative =
                        own_group == 0 ? total[0][t][j % 2] : total[kGroups - 1][t][j % 2];
                    out[t][i][j] =
                        out[t][i][j] * factor[t][j % 2] - relative * (kCentre * float(1 << shift));
                }
            }
        }
        TARPON_NO_UNROLL
        for (int tile = 0; tile < kChunkTiles; ++tile) {
            uint32_t b[kGroups][kRowTiles][2];
            TARPON_UNROLL
            for (int group = 0; group < kGroups; ++group) {
                TARPON_UNROLL
                for (int t = 0; t < kRowTiles; ++t) {
                    TARPON_UNROLL
                    for (int i = 0; i < 2; ++i)
                        b[group][t][i] =
                            tile == 0 ? weights[group][t][0][i] : weights[group][t][1][i];
                }
            }
            const auto multiply = [&](int i, const uint32_t(&a)[4]) {
                TARPON_UNROLL
                for (int t = 0; t < kRowTiles; ++t) {
                    if constexpr (kGroups == 1 || kBits == 16) {
                        ptx::mma_m16n8k16<half_t>(out[t][i], a, b[0][t]);
                    } else {  // rows of the other group's channels are zeros in each product
                        TARPON_UNROLL
                        for (int group = 0; group < kGroups; ++group) {
                            const uint32_t keep = own_group == group ? 0xffffffffu : 0;
                            ptx::mma_m16n8k16<half_t>(
                                out[t][i], {a[0] & keep, a[1] & keep, a[2] & keep, a[3] & keep},
                                b[group][t]);
                        }
                    }
                }
            };
            const uint8_t *first = kBits == 16 ? half_chunk<kHeadDim>(codes, 16 * tile, 0)
                                               : codes + 2 * kHeadDim * code_width(kBits) * tile;
            each_value_tile<kHeadDim, kBits>(first, upper + 2 * kHeadDim * tile, multiply);
        }
    }

    TARPON_DEVICE void add_values(int bits, const uint8_t *codes, const uint8_t *upper,
                                  const Weights &weights, const Totals &total,
                                  const float (&factor)[kRowTiles][2]) {
        switch (bits) {
            case 2:
                return add_codes<2>(codes, upper, weights, total, factor);
            case 3:
                return add_codes<3>(codes, upper, weights, total, factor);
            case 4:
                return add_codes<4>(codes, upper, weights, total, factor);
            case 8:
                return add_codes<8>(codes, upper, weights, total, factor);
            default:
                return add_codes<16>(codes, upper, weights, total, factor);
        }
    }
};

}  // namespace tarpon::kv_cache
