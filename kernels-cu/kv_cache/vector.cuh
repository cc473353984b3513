// A head's vector in the registers of a warp, and what both kernels do with it: load, norm, RoPE,
// rotation. Every sum has the order of scheme.h and hadamard/ref.h, so that codes agree bit for
// bit.
#pragma once

#include "common/ptx.cuh"
#include "hadamard/kernel.cuh"
#include "kv_cache/kernels.h"

namespace tarpon::kv_cache {

// Lane l holds the channels l * kElems and on; of head_dim 96 the lanes from 24 on hold zeros.
template <int kHeadDim>
struct HeadVector {
    static constexpr int kElems = kHeadDim <= 64 ? 2 : kHeadDim <= 128 ? 4 : 8;
    static constexpr int kLanes = kHeadDim / kElems;
    static constexpr int kBase = kHeadDim == 96 ? kBaseRows : 1;
    static constexpr int kPower = kHeadDim / kBase;
    static_assert(kLanes * kElems == kHeadDim && kLanes <= 32 && kPower * kBase == kHeadDim);

    static TARPON_DEVICE bool owns() { return ptx::lane_id() < kLanes; }
    static TARPON_DEVICE int channel(int i) { return ptx::lane_id() * kElems + i; }
};

template <class T, int kElems>
struct alignas(sizeof(T) * kElems < 16 ? sizeof(T) * kElems : 16) Run {
    T v[kElems];
};

template <int kHeadDim, class T>
TARPON_DEVICE void load_run(const T *from, bool vectors, float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    // Of 16 bytes at most: a vector of eight floats takes two accesses.
    constexpr int kStep = sizeof(T) * Head::kElems > 16 ? 16 / int(sizeof(T)) : Head::kElems;
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; i += kStep) {
        Run<T, kStep> run{};
        const T *at = from + Head::channel(i);
        if (!Head::owns()) {
        } else if (vectors) {
            run = ptx::ld_global_nc(reinterpret_cast<const Run<T, kStep> *>(at));
        } else {
            TARPON_UNROLL
            for (int e = 0; e < kStep; ++e)
                run.v[e] = ptx::ld_global_nc(at + e);
        }
        TARPON_UNROLL
        for (int e = 0; e < kStep; ++e)
            x[i + e] = to_float(run.v[e]);
    }
}

// `vectors`: the rows of `data` begin at multiples of 16 bytes.
template <int kHeadDim>
TARPON_DEVICE void load_vector(const void *data, Element element, int64_t index, bool vectors,
                               float (&x)[HeadVector<kHeadDim>::kElems]) {
    switch (element) {
        case Element::kF32:
            return load_run<kHeadDim>(static_cast<const float *>(data) + index, vectors, x);
        case Element::kF16:
            return load_run<kHeadDim>(static_cast<const half_t *>(data) + index, vectors, x);
        case Element::kBF16:
            return load_run<kHeadDim>(static_cast<const bf16_t *>(data) + index, vectors, x);
    }
}

template <int kHeadDim, class T>
TARPON_DEVICE void store_run(T *to, bool vectors, const float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    constexpr int kStep = sizeof(T) * Head::kElems > 16 ? 16 / int(sizeof(T)) : Head::kElems;
    if (!Head::owns()) return;
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; i += kStep) {
        Run<T, kStep> run;
        TARPON_UNROLL
        for (int e = 0; e < kStep; ++e)
            run.v[e] = from_float<T>(x[i + e]);
        T *at = to + Head::channel(i);
        if (vectors) {
            ptx::st_global(reinterpret_cast<Run<T, kStep> *>(at), run);
        } else {
            TARPON_UNROLL
            for (int e = 0; e < kStep; ++e)
                ptx::st_global(at + e, run.v[e]);
        }
    }
}

template <int kHeadDim>
TARPON_DEVICE void store_vector(void *data, Element element, int64_t index, bool vectors,
                                const float (&x)[HeadVector<kHeadDim>::kElems]) {
    switch (element) {
        case Element::kF32:
            return store_run<kHeadDim>(static_cast<float *>(data) + index, vectors, x);
        case Element::kF16:
            return store_run<kHeadDim>(static_cast<half_t *>(data) + index, vectors, x);
        case Element::kBF16:
            return store_run<kHeadDim>(static_cast<bf16_t *>(data) + index, vectors, x);
    }
}

// [warp] Lays the vector out in `row` [head_dim] of shared memory for all lanes to read. The lanes
// must have finished with what was there (sync_warp).
template <int kHeadDim>
TARPON_DEVICE void share_vector(float *row, const float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    if (Head::owns()) {
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i)
            ptx::st_shared(&row[Head::channel(i)], x[i]);
    }
    ptx::sync_warp();
}

// [warp] spread() of scheme.h of what share_vector() laid out; the same in all lanes.
template <int kHeadDim>
TARPON_DEVICE Spread shared_spread(const float *row) {
    Spread s{0, 0};
    const int residue = ptx::lane_id() % 16;
    TARPON_UNROLL
    for (int i = residue; i < kHeadDim; i += 16) {
        const float x = ptx::ld_shared(&row[i]);
        s.sum_squares = add_rn(s.sum_squares, mul_rn(x, x));
        s.absmax = fabsf(x) > s.absmax ? fabsf(x) : s.absmax;
    }
    for (int mask = 8; mask > 0; mask /= 2) {
        s.sum_squares = add_rn(s.sum_squares, ptx::shfl_xor(s.sum_squares, mask));
        const float other = ptx::shfl_xor(s.absmax, mask);
        s.absmax = other > s.absmax ? other : s.absmax;
    }
    return s;
}

// a + b rounded down.
TARPON_DEVICE float add_down(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fadd_rd(a, b);
#else
    const float nearest = a + b;
    return double(nearest) - double(b) > double(a) ? std::nextafter(nearest, -INFINITY) : nearest;
#endif
}

// grid_code() and grid_level() of scheme.h without conversions, which GPUs do at an eighth of the
// rate of additions: a sum with 1.5 * 2^23, rounded down, has the floor of a small number in its
// lowest bits.
class GridCode {
  public:
    TARPON_DEVICE GridCode(float x, float inverse, int bits) : half_(1 << (bits - 1)) {
        const float half = float(half_), scaled = mul_rn(x, inverse);
        const float within = fminf(fmaxf(scaled, -half), half - 1);
        floor_ = add_down(within, kUnit);
    }
    TARPON_DEVICE uint32_t code() const {
#ifdef __CUDA_ARCH__
        const uint32_t bits = __float_as_uint(floor_);
#else
        const uint32_t bits = std::bit_cast<uint32_t>(floor_);
#endif
        return bits - kUnitBits + uint32_t(half_);
    }
    TARPON_DEVICE float level() const {
        return floor_ - kUnit + 0.5f;
    }

  private:
    static constexpr float kUnit = 0x1.8p23f;
    static constexpr uint32_t kUnitBits = 0x4b400000;
    int half_;
    float floor_;
};

// [warp] choose_grid() of scheme.h of what share_vector() laid out: each half of the warp tries a
// step.
template <int kHeadDim>
TARPON_DEVICE Grid shared_grid(const float *row, int bits) {
    static_assert(kGridSteps == 2);
    const half_t step =
        grid_step(shared_spread<kHeadDim>(row), kHeadDim, bits, ptx::lane_id() / 16);
    const float inverse = grid_inverse(step);
    GridFit fit{0, 0};
    TARPON_UNROLL
    for (int i = ptx::lane_id() % 16; i < kHeadDim; i += 16) {
        const float x = ptx::ld_shared(&row[i]);
        const float level = GridCode(x, inverse, bits).level();
        fit.dot = add_rn(fit.dot, mul_rn(x, level));
        fit.square += level * level;
    }
    for (int mask = 8; mask > 0; mask /= 2) {
        fit.dot = add_rn(fit.dot, ptx::shfl_xor(fit.dot, mask));
        fit.square += ptx::shfl_xor(fit.square, mask);
    }
    const float gain = grid_gain(fit);
    const int winner = ptx::shfl(gain, 16) > ptx::shfl(gain, 0) ? 16 : 0;
    const uint32_t grid = uint32_t{step.bits} | uint32_t{grid_scale(fit).bits} << 16;
    const uint32_t best = ptx::shfl(grid, winner);
    return {half_t{uint16_t(best)}, half_t{uint16_t(best >> 16)}};
}

// [warp] rms_norm() of scheme.h; weight may be null.
template <int kHeadDim>
TARPON_DEVICE void norm_vector(const float *weight, float eps, float *row,
                               float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    if (!weight) return;
    share_vector<kHeadDim>(row, x);
    const float factor = norm_factor(shared_spread<kHeadDim>(row).sum_squares, kHeadDim, eps);
    ptx::sync_warp();
    if (!Head::owns()) return;
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i)
        x[i] = mul_rn(mul_rn(x[i], factor), ptx::ld_global_nc(&weight[Head::channel(i)]));
}

// Angles of a position: rope_angle() of scheme.h by checked loads.
TARPON_DEVICE CosSin load_angle(const RopeTables &t, int position, int pair) {
    return compose(ptx::ld_global_nc(&t.high[position / kRopeDigit * t.pairs + pair]),
                   ptx::ld_global_nc(&t.low[position % kRopeDigit * t.pairs + pair]));
}

// [warp] rope() of scheme.h, with the angle of each pair from angle_of(pair).
template <int kHeadDim, class AngleOf>
TARPON_DEVICE void turn_vector(const RopeTables &t, float *row,
                               float (&x)[HeadVector<kHeadDim>::kElems], AngleOf angle_of) {
    using Head = HeadVector<kHeadDim>;
    if (t.pairs == 0) return;
    const bool half = t.layout == RopeLayout::kHalf;
    // Whole heads in halves are the usual case: a pair's channels are half a warp apart.
    const bool by_shuffle = Head::kLanes == 32 && half && 2 * t.pairs == kHeadDim;
    if (!by_shuffle) share_vector<kHeadDim>(row, x);
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i) {
        const float across = by_shuffle ? ptx::shfl_xor(x[i], 16) : 0.0f;
        const int channel = Head::channel(i);
        if (channel >= 2 * t.pairs) continue;
        const int pair = half ? (channel < t.pairs ? channel : channel - t.pairs) : channel / 2;
        const bool first = channel == rope_first(t, pair);
        const int partner = first ? rope_second(t, pair) : rope_first(t, pair);
        const float other = by_shuffle ? across : ptx::ld_shared(&row[partner]);
        const CosSin angle = angle_of(pair);
        const float turned = mul_rn(other, angle.sin);
        x[i] = add_rn(mul_rn(x[i], angle.cos), first ? -turned : turned);
    }
    ptx::sync_warp();
}

// [warp] The same at a position.
template <int kHeadDim>
TARPON_DEVICE void turn_vector(const RopeTables &t, int position, float *row,
                               float (&x)[HeadVector<kHeadDim>::kElems]) {
    turn_vector<kHeadDim>(t, row, x, [&](int pair) { return load_angle(t, position, pair); });
}

// [warp] x becomes H x: transform_reference() of hadamard/ref.h.
template <int kHeadDim>
TARPON_DEVICE void rotate_vector(const PlanParams &plan, float (&x)[HeadVector<kHeadDim>::kElems]) {
    using Head = HeadVector<kHeadDim>;
    hadamard::register_stages<1, Head::kElems, Head::kElems>(x);
    TARPON_UNROLL
    for (int mask = 1; mask * Head::kElems < Head::kPower; mask *= 2)
        hadamard::lane_stage<Head::kElems>(x, mask);
    if constexpr (Head::kBase > 1) {
        // Rows of the base matrix run over blocks of kPower channels, which kBlockLanes lanes hold.
        constexpr int kBlockLanes = Head::kPower / Head::kElems;
        const int lane = ptx::lane_id(), block = lane / kBlockLanes;
        const uint32_t signs = Head::owns() ? plan.base_rows[block] : 0;
        TARPON_UNROLL
        for (int i = 0; i < Head::kElems; ++i) {
            float sum = 0;
            TARPON_UNROLL
            for (int j = 0; j < Head::kBase; ++j) {
                const float other = ptx::shfl(x[i], j * kBlockLanes + lane % kBlockLanes);
                const float term = signs >> j & 1 ? -other : other;
                sum = j == 0 ? term : sum + term;
            }
            x[i] = Head::owns() ? sum : 0.0f;
        }
    }
    TARPON_UNROLL
    for (int i = 0; i < Head::kElems; ++i)
        x[i] = mul_rn(x[i], plan.rotation_scale);
}

// [warp] The place of a token among the sinks of its row, -1 if it is none. positions
// [batch, sink_tokens]; null: the first tokens are.
TARPON_DEVICE int sink_place(const int32_t *positions, int sink_tokens, int row, int position) {
    if (!positions) return position < sink_tokens ? position : -1;
    int place = -1;
    TARPON_NO_UNROLL
    for (int i = ptx::lane_id(); i < sink_tokens; i += 32) {
        if (ptx::ld_global_nc(&positions[int64_t{row} * sink_tokens + i]) == position) place = i;
    }
    TARPON_UNROLL
    for (int mask = 16; mask > 0; mask /= 2) {
        const int other = ptx::shfl_xor(place, mask);
        place = other > place ? other : place;
    }
    return place;
}

// [warp] Which entry of its row's store in 16 bits a token has, -1 if none: a sink's, or one of the
// ring if it is among the last `kept`. Params: of append or dequantize.
template <class Params>
TARPON_DEVICE int64_t recent_entry(const Params &p, int row, int position, int kept) {
    const PlanParams &plan = p.plan;
    int place = sink_place(p.sink_positions, plan.sink_tokens, row, position);
    if (place < 0) {
        if (position < ptx::ld_global_nc(&p.lengths[row]) - kept) return -1;
        place = plan.sink_tokens + position % plan.ring_tokens;
    }
    const int64_t sequence = p.recent_index ? ptx::ld_global_nc(&p.recent_index[row]) : row;
    return sequence * (plan.sink_tokens + plan.ring_tokens) + place;
}

}  // namespace tarpon::kv_cache
