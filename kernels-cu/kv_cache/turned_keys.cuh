// Mode rotatekv's keys, turned back in shared memory: codes from wherever the order put them, the
// rotation of up to four heads undone, RoPE. A rotation's heads have a warp each, and those warps
// turn a tile of 16 tokens together; every thread keeps to one token, so that nothing is exchanged
// but between the passes:
//
//     add_strips   runs of channels: codes, and butterflies of the small strides      -> floats
//     add_columns  channels that stand a run apart: the larger strides, or the base matrix; in two
//                  passes if the runs are many
//     turn_pairs   RoPE
//
// The caller synchronises the block between them.
#pragma once

#include "kv_cache/key_codes.cuh"
#include "kv_cache/rotation.cuh"
#include "kv_cache/stage.cuh"

namespace tarpon::kv_cache {

// Where a tile has a channel of a rotation (counted over its heads) and a token: a head's floats are
// [head_dim][16], and a padding behind them. Banks: neighbouring channels, runs of 8, 16 or 32
// channels, and the channels of an operand (softmax.cuh) are in different ones.
template <int kHeadDim>
TARPON_DEVICE int key_at(int channel, int token) {
    const int flip = (channel >> 2 ^ channel >> 3 ^ channel >> 4 ^ channel >> 5) & 1;
    return channel / kHeadDim * (turned_bytes(kHeadDim) / 4) +
           (channel % kHeadDim ^ flip) * kTileTokens + (token ^ (channel & 2) * 4);
}

template <int kHeadDim, int kHeads>
class KeyTile {
    static constexpr int kChannels = kHeadDim * kHeads, kThreads = 32 * kHeads;
    static constexpr int kBase = HeadVector<kHeadDim>::kBase;
    static constexpr int kStrip = kBase > 1 ? kChannels / kBase : kChannels <= 64 ? 8 : 16;
    static constexpr int kStrips = kChannels / kStrip;
    static_assert(kStrip * kStrips == kChannels && kHeadDim % kStrip == 0);
    // How many strips a pass joins: the accumulators leave registers for 32 values.
    static constexpr int kJoined = kStrips <= 32 ? kStrips : 8;

  public:
    static constexpr int kColumnPasses = kJoined == kStrips ? 1 : 2;
    static_assert(kJoined == kStrips || kJoined * kJoined == kStrips);

    // `keys`: the floats of the rotation's first head.
    TARPON_DEVICE KeyTile(const PlanParams &plan, float *keys)
        : plan_(plan), keys_(keys), thread_(ptx::thread_idx() % kThreads) {}

    // Tokens at `place` and on in `page`, the first `valid` of them; first_head: the rotation's.
    TARPON_DEVICE void add_strips(const uint8_t *page, int place, int valid, int first_head) {
        for (int task = thread_; task < kStrips * kTileTokens; task += kThreads) {
            const int strip = task / kTileTokens, token = task % kTileTokens;
            const KeyPlace *places = plan_.places + first_head * kHeadDim + strip * kStrip;
            const KeyCodes codes(plan_, page, place + token);
            float x[kStrip];
            TARPON_UNROLL
            for (int i = 0; i < kStrip; ++i)
                x[i] = token < valid
                           ? codes.value(ptx::ld_global_nc(&places[i])) * plan_.key_rotation_scale
                           : 0.0f;
            hadamard::register_stages<1, kStrip, kStrip>(x);
            TARPON_UNROLL
            for (int i = 0; i < kStrip; ++i)
                ptx::st_shared(at(strip * kStrip + i, token), x[i]);
        }
    }

    // pass: 0 .. kColumnPasses - 1.
    TARPON_DEVICE void add_columns(int pass) {
        pass == 0 ? join<kStrip>() : join<kStrip * kJoined>();
    }

    // `position`: of the first token.
    TARPON_DEVICE void turn_pairs(int position) {
        const RopeTables &rope = plan_.rope;
        for (int task = thread_; task < rope.pairs * kTileTokens; task += kThreads) {
            const int pair = task / kTileTokens, token = task % kTileTokens;
            const CosSin angle = load_angle(rope, position + token, pair);
            TARPON_UNROLL
            for (int head = 0; head < kHeads; ++head) {
                float *first = at(head * kHeadDim + rope_first(rope, pair), token);
                float *second = at(head * kHeadDim + rope_second(rope, pair), token);
                const float a = ptx::ld_shared(first), b = ptx::ld_shared(second);
                ptx::st_shared(first, a * angle.cos - b * angle.sin);
                ptx::st_shared(second, b * angle.cos + a * angle.sin);
            }
        }
    }

  private:
    // Channels kStride apart, kJoined of them; nothing where kStride is beyond the last.
    template <int kStride>
    TARPON_DEVICE void join() {
        if constexpr (kStride < kChannels) {
            for (int task = thread_; task < kChannels / kJoined * kTileTokens; task += kThreads) {
                const int column = task / kTileTokens, token = task % kTileTokens;
                const int first = column / kStride * (kStride * kJoined) + column % kStride;
                float x[kJoined];
                TARPON_UNROLL
                for (int i = 0; i < kJoined; ++i)
                    x[i] = ptx::ld_shared(at(first + i * kStride, token));
                if constexpr (kBase > 1) {
                    multiply_base(plan_.base_rows, x);
                } else {
                    hadamard::register_stages<1, kJoined, kJoined>(x);
                }
                TARPON_UNROLL
                for (int i = 0; i < kJoined; ++i)
                    ptx::st_shared(at(first + i * kStride, token), x[i]);
            }
        }
    }

    TARPON_DEVICE float *at(int channel, int token) const {
        return keys_ + key_at<kHeadDim>(channel, token);
    }

    const PlanParams &plan_;
    float *keys_;
    int thread_;
};

// [warp] A tile of the recent store's keys of one head, which are kept as attention sees them.
// `first`: the head's first channel in its rotation.
template <int kHeadDim>
TARPON_DEVICE void load_recent_tile(const RecentRows &rows, const Work &w, const Chunk &chunk,
                                    int tile, int first, float *keys) {
    const int token = ptx::lane_id() % kTileTokens, in_chunk = tile * kTileTokens + token;
    const bool there = recent_tokens(w, chunk) >> in_chunk & 1;
    const half_t *from = there ? rows.key(chunk, in_chunk) : nullptr;
    for (int c = 8 * (ptx::lane_id() / kTileTokens); c < kHeadDim; c += 16) {
        Run<half_t, 8> run{};
        if (there) run = ptx::ld_global_nc(reinterpret_cast<const Run<half_t, 8> *>(from + c));
        TARPON_UNROLL
        for (int i = 0; i < 8; ++i)
            ptx::st_shared(keys + key_at<kHeadDim>(first + c + i, token), to_float(run.v[i]));
    }
}

// The keys of a block's chunks one tile after the other. A warp has a head of the rotation, and if
// there are fewer of them than warps, each that many warps on takes another chunk.
template <class Config>
class TurnedKeys {
  public:
    static constexpr int kHeadDim = Config::kHeadDim;

    TARPON_DEVICE TurnedKeys(const AttendParams &p, const Work &w, unsigned char *stages)
        : p_(p), w_(w), heads_(Config::heads(p)), head_(ptx::warp_id() % heads_) {
        const int first_warp = ptx::warp_id() - head_;
        keys_ = reinterpret_cast<float *>(stages + first_warp * turned_bytes(kHeadDim));
        values_ = stages + ptx::warp_id() * turned_bytes(kHeadDim);
        chunk_ = w.chunk + ptx::warp_id() / heads_;
    }

    TARPON_DEVICE int heads() const { return heads_; }
    TARPON_DEVICE int head() const { return head_; }
    // The same in all threads of the block: whether any warp has a chunk.
    TARPON_DEVICE bool done() const { return chunk_ - ptx::warp_id() / heads_ >= w_.chunk_end; }
    TARPON_DEVICE bool has_chunk() const { return chunk_ < w_.chunk_end; }
    TARPON_DEVICE Chunk chunk() const { return chunk_at(w_, chunk_); }
    TARPON_DEVICE void advance() { chunk_ += kKernelWarps / heads_; }
    // For Softmax::score_turned.
    TARPON_DEVICE const float *keys() const { return keys_; }
    TARPON_DEVICE int first_channel() const { return head_ * kHeadDim; }
    // For Softmax::finish_chunk.
    TARPON_DEVICE const uint8_t *values() const { return values_; }

    // [block] Turns a tile of the chunk back. What was there before must be done with.
    TARPON_DEVICE void turn(int tile) {
        if (w_.recent) {
            if (has_chunk())
                load_recent_tile<kHeadDim>(rows(), w_, chunk(), tile, first_channel(), keys_);
            ptx::sync_threads();
            return;
        }
        with_rotation_heads(heads_, [&](auto together) {
            KeyTile<kHeadDim, decltype(together)::value> keys(p_.plan, keys_);
            const int first = chunk_ * kChunkTokens + tile * kTileTokens;
            const int page_tokens = p_.plan.format.page_tokens;
            if (has_chunk())
                keys.add_strips(head_block(p_, page(), 0), first % page_tokens, w_.length - first,
                                w_.kv_head);
            ptx::sync_threads();
            TARPON_UNROLL
            for (int pass = 0; pass < keys.kColumnPasses; ++pass) {
                if (has_chunk()) keys.add_columns(pass);
                ptx::sync_threads();
            }
            if (has_chunk()) keys.turn_pairs(first);
            ptx::sync_threads();
        });
    }

    // [warp] Fetches the values of the chunk to where the keys were; they must have been scored.
    TARPON_DEVICE void fetch_values(const StageLayout &s) {
        const Chunk own = chunk();
        if (w_.recent) {
            const RecentRows from = rows();
            copy_half_rows<kHeadDim>(values_ + s.v_codes, recent_tokens(w_, own),
                                     [&](int token) { return from.key(own, token) + kHeadDim; });
        } else {
            copy_values<Config>(p_.plan, head_block(p_, page(), w_.kv_head + head_),
                                own.first % p_.plan.format.page_tokens, w_.length - own.first, s,
                                values_);
        }
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
        ptx::sync_warp();
    }

  private:
    TARPON_DEVICE RecentRows rows() const { return RecentRows(p_, w_, w_.kv_head + head_); }
    TARPON_DEVICE int page() const {
        const int index = chunk_ * kChunkTokens / p_.plan.format.page_tokens;
        return ptx::ld_global_nc(&p_.page_table[w_.row * p_.table_stride + index]);
    }

    const AttendParams &p_;
    const Work &w_;
    const int heads_, head_;
    float *keys_;  // of the rotation
    unsigned char *values_;
    int chunk_;
};

}  // namespace tarpon::kv_cache
